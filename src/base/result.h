// Errors as values: every function whose failure depends on its input returns Result<T> or Status.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace polyveil {

enum class ErrorCode {
  kInvalidArgument,  // a value that can never be right
  kMismatch,         // two values that must agree do not (level, scale, digest, key)
  kMissingKey,       // an evaluation key that the operation needs is absent
  kCorrupt,          // bytes that do not parse or fail their check
  kOutOfRange,       // a value outside a stated bound
  kSecurity,         // parameters that miss the security bound
  kNotFound,
  kIo,
  kUnavailable,  // the other side is gone or busy
  kResource,     // memory, disk or a session limit
  kCancelled,
  kUntrustedResult,  // a decrypted result that no sound computation gives; the client alone says so
};

const char* ErrorCodeName(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;  // what, where, both values: "ct.level = 3 < required 5 (layer 2 / power)"
};

template <typename... Args>
Error MakeError(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return std::get<Error>(state_); }

  T& value() & {
    PV_CHECK(ok(), "value() of an error: {}", error().message);
    return std::get<T>(state_);
  }
  const T& value() const& {
    PV_CHECK(ok(), "value() of an error: {}", error().message);
    return std::get<T>(state_);
  }
  // By value: the result of F().value() outlives the temporary, in a range-for too.
  T value() && {
    PV_CHECK(ok(), "value() of an error: {}", error().message);
    return std::get<T>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return std::holds_alternative<std::monostate>(state_); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return std::get<Error>(state_); }
  void value() const { PV_CHECK(ok(), "value() of an error: {}", error().message); }

 private:
  std::variant<std::monostate, Error> state_;
};

using Status = Result<void>;

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
