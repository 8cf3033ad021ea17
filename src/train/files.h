// Writing files of the trainer: whole, or an error with path and size.
#pragma once

#include <cstddef>
#include <fstream>
#include <string>

#include "base/result.h"

namespace polyveil::train {

inline Status WriteFile(const std::string& path, const void* bytes, std::size_t size) {
  std::ofstream out(path, std::ios::binary);
  out.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
  out.close();
  if (!out) return MakeError(ErrorCode::kIo, "cannot write {} bytes to {}", size, path);
  return {};
}

}  // namespace polyveil::train
