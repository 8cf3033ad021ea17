// The module's one file adapter: whole bounded reads, and private files that appear complete or not
// at all.
#pragma once

#include <span>
#include <string>

#include "base/secure_memory.h"
#include "wire/bytes.h"

namespace polyveil::wire {

enum class Existing { kReplace, kKeep };

// A file that comes to exist at `path` only by Commit, mode 0600: written without a name (on file
// systems that cannot, to a temporary name beside it, created exclusively, links not followed),
// synced, renamed. A file of before stays whole until the new one takes its place. Destroyed
// without Commit, or killed before Prepare, nothing is left behind; what a kill behind it leaves
// the next one of this path removes.
class PrivateFile {
 public:
  // Errors: kIo with the path and the system's reason.
  static Result<PrivateFile> Create(const std::string& path);
  PrivateFile(PrivateFile&& other) noexcept;
  PrivateFile& operator=(PrivateFile&&) = delete;
  ~PrivateFile();

  // Errors: kIo (disk full and others): path, bytes written before, bytes of this write, reason.
  Status Write(ByteView bytes);
  // Everything of Commit but the renaming: the bytes are on the disk, under a temporary name.
  Status Prepare();
  // Prepares if that is not done. kKeep: kInvalidArgument when the path exists.
  Status Commit(Existing existing = Existing::kReplace);
  u64 bytes() const { return bytes_; }

 private:
  PrivateFile() = default;
  std::string path_, temporary_;
  int fd_ = -1;         // until the end: it holds the part
  bool named_ = false;  // temporary_ exists
  bool synced_ = false;
  u64 bytes_ = 0;
};

// Reads a whole file of at most max_bytes. Errors: kNotFound, kIo, kOutOfRange (both sizes).
Result<Bytes> ReadFile(const std::string& path, u64 max_bytes);

// The same for a secret, into memory that is wiped. What is checked is the open file that is then
// read: a regular one, of this user or root, of no use to group and others. Links are followed to
// it. Errors: kSecurity (mode or owner, and what is required) besides those of ReadFile.
Result<SecureVector<std::uint8_t>> ReadPrivateFile(const std::string& path, u64 max_bytes);

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
  Status Read(std::span<std::uint8_t> out);  // exactly out.size() bytes
  Status Rewind();
  Status RequirePrivate() const;  // kSecurity

 private:
  FileReader() = default;
  std::string path_;
  int fd_ = -1;
  u64 size_ = 0, offset_ = 0;
};

}  // namespace polyveil::wire
