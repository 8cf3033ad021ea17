#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace polyveil {

void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "polyveil: internal error at %s:%d: %s: %s\n", file, line, condition,
               message.c_str());
  std::abort();
}

}  // namespace polyveil
