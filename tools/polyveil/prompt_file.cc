#include "polyveil/prompt_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

Result<std::string> ReadAll(int fd, const std::string& name) {
  std::string text;
  std::array<char, 4096> piece;
  while (true) {
    const ssize_t got = read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR && !Interrupted()) continue;
    if (got < 0 && errno == EINTR) return MakeError(ErrorCode::kCancelled, "{}: cancelled", name);
    if (got < 0) return MakeError(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
    if (got == 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
    if (text.size() > kMaxPromptBytes) {
      return MakeError(ErrorCode::kOutOfRange, "{}: a prompt of more than {} bytes", name,
                       kMaxPromptBytes);
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

Result<std::string> ReadPrompt(const std::string& path) {
  if (path == "-") return ReadAll(STDIN_FILENO, "standard input");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: cannot read a prompt: {}", path,
                     std::strerror(errno));
  }
  auto text = ReadAll(fd, path);
  close(fd);
  return text;
}

}  // namespace polyveil::tools
