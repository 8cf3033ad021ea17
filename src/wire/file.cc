#include "wire/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file_descriptor.h"
#include "base/part_file.h"

namespace polyveil::wire {
namespace {

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
  RemoveLeftParts(path);
  file.temporary_ = PartName(path);
  file.fd_ = open(Directory(path).c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (file.fd_ >= 0) {
    HoldPart(file.fd_);
    return file;
  }
  file.fd_ = OpenPart(path, 0600, file.temporary_);
  file.named_ = file.fd_ >= 0;
  if (!file.named_) return SystemError(file.temporary_, "cannot create the file");
  return file;
}

PrivateFile::PrivateFile(PrivateFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)),
      named_(std::exchange(other.named_, false)),
      synced_(other.synced_),
      bytes_(other.bytes_) {}

PrivateFile::~PrivateFile() {
  if (named_) unlink(temporary_.c_str());
  if (fd_ >= 0) close(fd_);
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

Status PrivateFile::Prepare() {
  if (synced_) return {};
  if (fsync(fd_) != 0) return SystemError(path_, "cannot sync the file");
  if (!named_) {
    const std::string open_file = "/proc/self/fd/" + std::to_string(fd_);
    if (linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return SystemError(temporary_, "cannot name the finished file");
    named_ = true;
  }
  synced_ = true;
  return {};
}

Status PrivateFile::Commit(Existing existing) {
  PV_RETURN_IF_ERROR(Prepare());
  if (existing == Existing::kKeep) {
    // A link, unlike a rename, never replaces; the temporary name goes with this object.
    if (link(temporary_.c_str(), path_.c_str()) != 0) {
      if (errno == EEXIST) return MakeError(ErrorCode::kInvalidArgument, "{}: it exists", path_);
      return SystemError(path_, "cannot link the finished file");
    }
  } else {
    if (rename(temporary_.c_str(), path_.c_str()) != 0)
      return SystemError(path_, "cannot rename the finished file");
    named_ = false;
  }
  SyncDirectory(path_);
  return {};
}

Result<FileReader> FileReader::Open(const std::string& path) {
  FileReader reader;
  reader.path_ = path;
  // Not blocking: a pipe without a writer is refused below, not waited for.
  reader.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
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
  PV_RETURN_IF_ERROR(Read(std::span(bytes)));
  return bytes;
}

Status FileReader::Read(std::span<std::uint8_t> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = read(fd_, out.data() + done, out.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path_, "cannot read");
    if (got == 0) {
      return MakeError(ErrorCode::kIo, "{}: ended at {} of {} bytes", path_, offset_ + done, size_);
    }
    done += static_cast<size_t>(got);
  }
  offset_ += done;
  return {};
}

Status FileReader::RequirePrivate() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return SystemError(path_, "cannot read the file's mode");
  if ((info.st_mode & 077) != 0) {
    return MakeError(ErrorCode::kSecurity,
                     "{}: mode {:03o} lets others use a secret key, required 600 (chmod 600 FILE)",
                     path_, info.st_mode & 0777);
  }
  if (info.st_uid == geteuid() || info.st_uid == 0) return {};
  return MakeError(ErrorCode::kSecurity, "{}: owned by user {}, required {}", path_, info.st_uid,
                   geteuid());
}

Status FileReader::Rewind() {
  if (lseek(fd_, 0, SEEK_SET) != 0) return SystemError(path_, "cannot seek");
  offset_ = 0;
  return {};
}

namespace {

Result<FileReader> OpenBounded(const std::string& path, u64 max_bytes) {
  PV_ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(path));
  if (reader.size() <= max_bytes) return reader;
  return MakeError(ErrorCode::kOutOfRange, "{}: {} bytes, at most {} are read", path, reader.size(),
                   max_bytes);
}

}  // namespace

Result<Bytes> ReadFile(const std::string& path, u64 max_bytes) {
  PV_ASSIGN_OR_RETURN(FileReader reader, OpenBounded(path, max_bytes));
  return reader.Read(static_cast<size_t>(reader.size()));
}

Result<SecureVector<std::uint8_t>> ReadPrivateFile(const std::string& path, u64 max_bytes) {
  PV_ASSIGN_OR_RETURN(FileReader reader, OpenBounded(path, max_bytes));
  PV_RETURN_IF_ERROR(reader.RequirePrivate());
  SecureVector<std::uint8_t> bytes(static_cast<size_t>(reader.size()));
  PV_RETURN_IF_ERROR(reader.Read(std::span(bytes)));
  return bytes;
}

}  // namespace polyveil::wire
