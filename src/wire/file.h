// The module's one file adapter: whole bounded reads, and private files that appear complete or not
// at all.
#pragma once

#include <string>

#include "wire/bytes.h"

namespace polyveil::wire {

// A file that comes to exist at `path` only by Commit: written to a temporary name beside it with
// mode 0600 (created exclusively, links not followed), synced, renamed. Destroyed without Commit,
// nothing is left behind.
class PrivateFile {
 public:
  // Errors: kIo with the path and the system's reason.
  static Result<PrivateFile> Create(const std::string& path);
  PrivateFile(PrivateFile&& other) noexcept;
  PrivateFile& operator=(PrivateFile&&) = delete;
  ~PrivateFile();

  // Errors: kIo (disk full and others): path, bytes written before, bytes of this write, reason.
  Status Write(ByteView bytes);
  Status Commit();
  u64 bytes() const { return bytes_; }

 private:
  PrivateFile() = default;
  std::string path_, temporary_;
  int fd_ = -1;
  u64 bytes_ = 0;
};

// Reads a whole file of at most max_bytes. Errors: kNotFound, kIo, kOutOfRange (both sizes).
Result<Bytes> ReadFile(const std::string& path, u64 max_bytes);

// Reads a file from its start in order. Errors: kNotFound, kIo.
class FileReader {
 public:
  static Result<FileReader> Open(const std::string& path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  u64 size() const { return size_; }
  // The next min(count, left) bytes. kIo when the file has shrunk.
  Result<Bytes> Read(size_t count);
  Status Rewind();

 private:
  FileReader() = default;
  std::string path_;
  int fd_ = -1;
  u64 size_ = 0, offset_ = 0;
};

}  // namespace polyveil::wire
