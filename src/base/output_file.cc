#include "base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file_descriptor.h"
#include "base/part_file.h"

namespace polyveil {
namespace {

namespace fs = std::filesystem;

Error CannotWrite(const std::string& path, int reason) {
  return MakeError(ErrorCode::kIo, "{}: cannot write: {}", path, std::strerror(reason));
}

// Where the bytes go in the end: links are followed, so that a rename replaces no link.
std::string Target(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  return error || real.empty() ? path : real.string();
}

bool IsSpecial(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
}

Status WriteAll(int fd, const std::string& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return CannotWrite(path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Status WriteInPlace(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (fd < 0) return CannotWrite(path, errno);
  Status status = WriteAll(fd, path, bytes);
  if (close(fd) != 0 && status.ok()) return CannotWrite(path, errno);
  return status;
}

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

}  // namespace

Status CheckWritable(const std::string& path) {
  if (path.empty()) return {};
  const std::string target = Target(path);
  if (fs::is_directory(target)) return CannotWrite(path, EISDIR);
  if (fs::path(target).filename().empty()) return CannotWrite(path, ENOENT);
  if (access(target.c_str(), F_OK) == 0 && access(target.c_str(), W_OK) != 0)
    return CannotWrite(path, errno);
  if (IsSpecial(target)) return {};
  RemoveLeftParts(target);
  std::string part;
  const int fd = OpenPart(target, 0600, part);
  if (fd < 0) return CannotWrite(path, errno);
  unlink(part.c_str());
  close(fd);
  return {};
}

Status CheckWritableFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return CannotWrite(folder, error.value());
  return CheckWritable(folder + "/file");
}

Status WriteFile(const std::string& path, std::string_view bytes, mode_t mode) {
  const std::string target = Target(path);
  if (IsSpecial(target)) return WriteInPlace(path, bytes);
  RemoveLeftParts(target);
  std::string part;
  const Descriptor file{OpenPart(target, mode, part)};
  if (file.fd < 0) return CannotWrite(path, errno);
  Status status = WriteAll(file.fd, path, bytes);
  if (status.ok() && fsync(file.fd) != 0) status = CannotWrite(path, errno);
  if (status.ok() && rename(part.c_str(), target.c_str()) != 0) status = CannotWrite(path, errno);
  if (!status.ok()) unlink(part.c_str());
  return status;
}

Status CheckFileName(std::string_view what, std::string_view name) {
  if (!name.empty() && name.size() <= kMaxFileName && name[0] != '.' &&
      std::all_of(name.begin(), name.end(), IsNameCharacter))
    return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   "{} \"{}\" is no file's name: 1 to {} letters, digits, '-', '_', '.', no '.' "
                   "at its start",
                   what, name.substr(0, kMaxFileName), kMaxFileName);
}

std::string ToFileName(std::string_view name) {
  std::string out(name.substr(0, kMaxFileName));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return !IsNameCharacter(c); }, '_');
  if (out.empty()) out = "_";
  if (out[0] == '.') out[0] = '_';
  return out;
}

}  // namespace polyveil
