// PV_CHECK: an invariant of our own. A failure is a bug in Polyveil, never a consequence of input.
#pragma once

#include <fmt/format.h>

#include <string>

namespace polyveil {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& message);

}  // namespace polyveil

#define PV_CHECK(condition, ...)                                                           \
  do {                                                                                     \
    if (!(condition)) [[unlikely]]                                                         \
      ::polyveil::CheckFailed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (0)
