// The library's Result (include/polyveil/result.h) with what its own sources add: formatted errors
// and the macros that hand them on.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/check.h"
#include "polyveil/result.h"

namespace polyveil {

template <typename... Args>
Error MakeError(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace polyveil

#define PV_CONCAT_(a, b) a##b
#define PV_CONCAT(a, b) PV_CONCAT_(a, b)

// Returns the error of a Status or Result expression to the caller.
#define PV_RETURN_IF_ERROR(expression)                                            \
  do {                                                                            \
    if (auto pv_status = (expression); !pv_status.ok()) return pv_status.error(); \
  } while (0)

// PV_ASSIGN_OR_RETURN(auto x, F()): x = F()'s value, or returns its error to the caller.
#define PV_ASSIGN_OR_RETURN(declaration, expression) \
  PV_ASSIGN_OR_RETURN_(PV_CONCAT(pv_result_, __LINE__), declaration, expression)
#define PV_ASSIGN_OR_RETURN_(result, declaration, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return result.error();                    \
  declaration = std::move(result).value()
