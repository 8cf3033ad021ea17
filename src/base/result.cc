#include "base/result.h"

#include <cstdio>
#include <cstdlib>

namespace polyveil {

const char* ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kMismatch:
      return "mismatch";
    case ErrorCode::kMissingKey:
      return "missing key";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kOutOfRange:
      return "out of range";
    case ErrorCode::kSecurity:
      return "security";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kIo:
      return "input/output";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kResource:
      return "resource";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kUntrustedResult:
      return "untrusted result";
  }
  return "unknown";
}

void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "polyveil: internal error at %s:%d: %s: %s\n", file, line, condition,
               message.c_str());
  std::abort();
}

}  // namespace polyveil
