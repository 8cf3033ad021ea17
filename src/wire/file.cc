#include "wire/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/csprng.h"
#include "base/digest.h"

namespace polyveil::wire {
namespace {

Error SystemError(const std::string& path, const char* action) {
  const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return MakeError(code, "{}: {}: {}", path, action, std::strerror(errno));
}

std::string Directory(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Makes the rename itself durable. Best effort: some file systems refuse to sync a directory.
void SyncDirectory(const std::string& path) {
  const int fd = open(Directory(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace

Result<PrivateFile> PrivateFile::Create(const std::string& path) {
  PrivateFile file;
  file.path_ = path;
  const Seed unique = RandomSeed();
  file.temporary_ = path + ".part-" + ToHex(std::span(unique).first(6));
  file.fd_ =
      open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file.fd_ < 0) return SystemError(file.temporary_, "cannot create the file");
  return file;
}

PrivateFile::PrivateFile(PrivateFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_) {}

PrivateFile::~PrivateFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

Status PrivateFile::Write(ByteView bytes) {
  const u64 before = bytes_;
  const size_t count = bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      return MakeError(ErrorCode::kIo, "{}: wrote {} of {} bytes: {}", path_, bytes_,
                       before + count, std::strerror(errno));
    }
    bytes_ += static_cast<u64>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status PrivateFile::Commit() {
  if (fsync(fd_) != 0) return SystemError(path_, "cannot sync the file");
  if (close(std::exchange(fd_, -1)) != 0) {
    const Error error = SystemError(path_, "cannot close the file");
    unlink(temporary_.c_str());
    return error;
  }
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    const Error error = SystemError(path_, "cannot rename the finished file");
    unlink(temporary_.c_str());
    return error;
  }
  SyncDirectory(path_);
  return {};
}

Result<FileReader> FileReader::Open(const std::string& path) {
  FileReader reader;
  reader.path_ = path;
  reader.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (reader.fd_ < 0) return SystemError(path, "cannot open the file");
  struct stat info;
  if (fstat(reader.fd_, &info) != 0) return SystemError(path, "cannot read the file's size");
  if (!S_ISREG(info.st_mode)) return MakeError(ErrorCode::kIo, "{}: not a regular file", path);
  reader.size_ = static_cast<u64>(info.st_size);
  return reader;
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      offset_(other.offset_) {}

FileReader::~FileReader() {
  if (fd_ >= 0) close(fd_);
}

Result<Bytes> FileReader::Read(size_t count) {
  Bytes bytes(static_cast<size_t>(std::min<u64>(count, size_ - offset_)));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(fd_, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path_, "cannot read");
    if (got == 0) {
      return MakeError(ErrorCode::kIo, "{}: ended at {} of {} bytes", path_, offset_ + done, size_);
    }
    done += static_cast<size_t>(got);
  }
  offset_ += done;
  return bytes;
}

Status FileReader::Rewind() {
  if (lseek(fd_, 0, SEEK_SET) != 0) return SystemError(path_, "cannot seek");
  offset_ = 0;
  return {};
}

Result<Bytes> ReadFile(const std::string& path, u64 max_bytes) {
  PV_ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(path));
  if (reader.size() > max_bytes) {
    return MakeError(ErrorCode::kOutOfRange, "{}: {} bytes, at most {} are read", path,
                     reader.size(), max_bytes);
  }
  return reader.Read(static_cast<size_t>(reader.size()));
}

}  // namespace polyveil::wire
