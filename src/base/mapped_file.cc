#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file_descriptor.h"

namespace polyveil {

Result<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return SystemError(path, "cannot open the file");
  struct stat info;
  if (fstat(file.fd, &info) != 0) return SystemError(path, "cannot read the file's size");
  if (!S_ISREG(info.st_mode)) return MakeError(ErrorCode::kIo, "{}: not a regular file", path);
  const auto size = static_cast<std::size_t>(info.st_size);
  std::span<const std::uint8_t> bytes;
  if (size > 0) {
    void* at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (at == MAP_FAILED) return SystemError(path, "cannot map the file");
    bytes = {static_cast<const std::uint8_t*>(at), size};
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::uint8_t*>(bytes_.data()), bytes_.size());
}

}  // namespace polyveil
