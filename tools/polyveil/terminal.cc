#include "polyveil/terminal.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

namespace polyveil::tools {
namespace {

constexpr size_t kMaxPassphraseBytes = 1024;

// Turns the terminal's echo off while it lives.
class NoEcho {
 public:
  explicit NoEcho(int fd) : fd_(fd), valid_(tcgetattr(fd, &old_) == 0) {
    if (!valid_) return;
    termios silent = old_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(fd_, TCSAFLUSH, &silent);
  }
  ~NoEcho() {
    if (valid_) tcsetattr(fd_, TCSAFLUSH, &old_);
  }

 private:
  int fd_;
  termios old_{};
  bool valid_;
};

Result<SecureVector<char>> ReadLine(int fd, const std::string& what) {
  SecureVector<char> line;
  line.reserve(kMaxPassphraseBytes);
  char c = 0;
  while (true) {
    const ssize_t got = read(fd, &c, 1);
    if (got < 0 && errno == EINTR && !Interrupted()) continue;
    if (got < 0) return MakeError(ErrorCode::kIo, "{}: {}", what, std::strerror(errno));
    if (got == 0 || c == '\n') break;
    if (line.size() == kMaxPassphraseBytes) {
      return MakeError(ErrorCode::kOutOfRange, "{}: a passphrase of more than {} bytes", what,
                       kMaxPassphraseBytes);
    }
    line.push_back(c);
  }
  if (line.empty())
    return MakeError(ErrorCode::kInvalidArgument, "{}: the passphrase is empty", what);
  return line;
}

Result<SecureVector<char>> AskOnce(int fd, const char* prompt) {
  const NoEcho silent(fd);
  if (write(fd, prompt, std::strlen(prompt)) < 0) {
    return MakeError(ErrorCode::kIo, "terminal: {}", std::strerror(errno));
  }
  auto line = ReadLine(fd, "terminal");
  const ssize_t ignored = write(fd, "\n", 1);
  (void)ignored;
  return line;
}

Result<SecureVector<char>> AskTerminal(int fd, bool confirm) {
  PV_ASSIGN_OR_RETURN(auto first, AskOnce(fd, "Passphrase of the secret key: "));
  if (confirm) {
    PV_ASSIGN_OR_RETURN(const auto second, AskOnce(fd, "Again: "));
    if (first != second) {
      return MakeError(ErrorCode::kInvalidArgument, "the two passphrases differ");
    }
  }
  return first;
}

}  // namespace

Result<std::optional<SecureVector<char>>> ReadPassphrase(const PassphraseSource& source,
                                                         bool confirm) {
  if (source.file.empty() && !source.ask) return std::optional<SecureVector<char>>();
  const std::string path = source.file.empty() ? "/dev/tty" : source.file;
  const int fd = open(path.c_str(), (source.file.empty() ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: cannot read a passphrase: {}", path,
                     std::strerror(errno));
  }
  auto line = source.file.empty() ? AskTerminal(fd, confirm) : ReadLine(fd, path);
  close(fd);
  if (!line.ok()) return line.error();
  return std::optional<SecureVector<char>>(std::move(line).value());
}

std::string FormatBytes(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.2f} GB", bytes / 1e9);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 0.1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 100) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 6000) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace polyveil::tools
