/// @file
/// Errors as values: every function whose failure depends on its input returns Result<T> or Status.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "polyveil/export.h"

namespace polyveil {

/// What kind of thing went wrong.
enum class ErrorCode {
  kInvalidArgument,  ///< a value that can never be right
  kMismatch,         ///< two values that must agree do not (level, scale, digest, key)
  kMissingKey,       ///< an evaluation key that the operation needs is absent
  kCorrupt,          ///< bytes that do not parse or fail their check
  kOutOfRange,       ///< a value outside a stated bound
  kSecurity,         ///< parameters that miss the security bound
  kNotFound,         ///< a file, a name, a session
  kIo,               ///< the system's reason is in the message
  kUnavailable,      ///< the other side is gone or busy
  kResource,         ///< memory, disk or a session limit
  kCancelled,        ///< by the caller
  kUntrustedResult,  ///< a decrypted result that no sound computation gives; the client alone says
                     ///< so
};

/// "out of range".
inline const char* ErrorCodeName(ErrorCode code) {
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

/// Why there is no value.
struct Error {
  ErrorCode code;       ///< its kind
  std::string message;  ///< what, where, both values: "ct.level = 3 < required 5 (layer 2 / power)"
};

/// What value() of an error throws: for callers who prefer exceptions. Nothing else of the library
/// throws it.
class POLYVEIL_API ErrorException : public std::runtime_error {
 public:
  /// what() is the error's message.
  explicit ErrorException(const Error& error) : std::runtime_error(error.message), error_(error) {}
  const Error& error() const { return error_; }  ///< What was asked for its value.

 private:
  Error error_;
};

/// A value, or why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  /// From either.
  ///@{
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}
  ///@}

  /// Whether there is a value.
  ///@{
  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }
  ///@}
  const Error& error() const { return std::get<Error>(state_); }  ///< Requires !ok().

  /// The value; throws ErrorException where there is none. Of a temporary it is moved out: the
  /// result of F().value() outlives it, in a range-for too.
  ///@{
  T& value() & {
    Require();
    return std::get<T>(state_);
  }
  const T& value() const& {
    Require();
    return std::get<T>(state_);
  }
  T value() && {
    Require();
    return std::get<T>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  ///@}

 private:
  void Require() const {
    if (!ok()) [[unlikely]]
      throw ErrorException(error());
  }

  std::variant<T, Error> state_;
};

/// Success, or why there is none.
template <>
class [[nodiscard]] Result<void> {
 public:
  /// Success, or an error.
  ///@{
  Result() = default;
  Result(Error error) : state_(std::move(error)) {}
  ///@}

  /// Whether it is success.
  ///@{
  bool ok() const { return std::holds_alternative<std::monostate>(state_); }
  explicit operator bool() const { return ok(); }
  ///@}
  const Error& error() const { return std::get<Error>(state_); }  ///< Requires !ok().
  /// Throws ErrorException unless ok().
  void value() const {
    if (!ok()) throw ErrorException(error());
  }

 private:
  std::variant<std::monostate, Error> state_;
};

/// Of what has no value to return.
using Status = Result<void>;

}  // namespace polyveil
