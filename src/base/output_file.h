// Files that a command writes: tried before its work begins, whole or not there at all.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil {

// Whether WriteFile(path) could write, as far as can be known beforehand: a file is made beside it
// and removed. An empty path is none and always right. Errors: kIo, the path and the reason.
Status CheckWritable(const std::string& path);

// The same for files inside a folder, which is made where it is missing.
Status CheckWritableFolder(const std::string& folder);

// Writes beside `path` and renames, so that an error or an interruption leaves the file of before.
// What is no regular file (a pipe, a device) is written in place. mode: of a new file, less the
// umask. Errors: kIo, the path and the reason.
Status WriteFile(const std::string& path, std::string_view bytes, mode_t mode = 0666);

// The values' bytes, as they lie in memory.
template <typename T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A name out of a file or an option that becomes part of a path: letters, digits, '-', '_', '.', no
// leading '.', 1 to kMaxFileName bytes. `what` is named in the error (kInvalidArgument).
inline constexpr size_t kMaxFileName = 100;
Status CheckFileName(std::string_view what, std::string_view name);
// The name with every other character replaced by '_'.
std::string ToFileName(std::string_view name);

}  // namespace polyveil
