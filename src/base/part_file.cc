#include "base/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/csprng.h"
#include "base/digest.h"
#include "base/file_descriptor.h"

namespace polyveil {
namespace {

namespace fs = std::filesystem;

constexpr char kPart[] = ".part-";
constexpr size_t kPartBytes = 6;

bool IsPartOf(const std::string& name, const std::string& file) {
  const std::string begin = file + kPart;
  return name.size() == begin.size() + 2 * kPartBytes && name.starts_with(begin) &&
         std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin.size()), name.end(),
                     [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// Between its creation and its lock another process may have taken a part for a left one.
bool IsOurs(int fd) {
  struct stat info {};
  return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &info) == 0 && info.st_nlink > 0;
}

}  // namespace

std::string PartName(const std::string& path) {
  const Seed unique = RandomSeed();
  return path + kPart + ToHex(std::span(unique).first(kPartBytes));
}

void HoldPart(int fd) { (void)flock(fd, LOCK_EX | LOCK_NB); }

int OpenPart(const std::string& path, mode_t mode, std::string& name) {
  for (int i = 0; i < 100; ++i) {
    name = PartName(path);
    const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0 || IsOurs(fd)) return fd;
    unlink(name.c_str());
    close(fd);
  }
  errno = EBUSY;
  return -1;
}

void RemoveLeftParts(const std::string& path) {
  const fs::path target(path);
  const std::string file = target.filename().string();
  std::error_code error;
  fs::directory_iterator entry(target.has_parent_path() ? target.parent_path() : fs::path("."),
                               error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (!IsPartOf(entry->path().filename().string(), file)) continue;
    constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    const Descriptor part{open(entry->path().c_str(), kFlags)};
    if (part.fd >= 0 && flock(part.fd, LOCK_EX | LOCK_NB) == 0) unlink(entry->path().c_str());
  }
}

}  // namespace polyveil
