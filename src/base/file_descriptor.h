// What a system call left behind: a descriptor that closes itself, and errno as an error.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/result.h"

namespace polyveil {

// Closes, and with that unlocks.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

// errno of a call on `path`: kNotFound where nothing is there, otherwise kIo.
inline Error SystemError(const std::string& path, const char* action) {
  const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return MakeError(code, "{}: {}: {}", path, action, std::strerror(errno));
}

}  // namespace polyveil
