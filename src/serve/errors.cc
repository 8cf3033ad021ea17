#include <nlohmann/json.hpp>

#include "serve/protocol.h"
#include "wire/json_fields.h"

namespace polyveil::serve {
namespace {

// What a server may say.
constexpr ErrorCode kAllCodes[] = {
    ErrorCode::kInvalidArgument, ErrorCode::kMismatch, ErrorCode::kMissingKey, ErrorCode::kCorrupt,
    ErrorCode::kOutOfRange,      ErrorCode::kSecurity, ErrorCode::kNotFound,   ErrorCode::kIo,
    ErrorCode::kUnavailable,     ErrorCode::kResource, ErrorCode::kCancelled,
};
constexpr size_t kMaxErrorBytes = 16384;   // of a body: a message of 4096 bytes, escaped
constexpr size_t kMaxMessageBytes = 1024;  // as it is shown

}  // namespace

std::string ErrorToJson(const Error& error) {
  const nlohmann::json json = {
      {"error", {{"code", ErrorCodeName(error.code)}, {"message", error.message}}}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

int HttpStatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kCorrupt:
    case ErrorCode::kMissingKey:
    case ErrorCode::kSecurity:
      return 400;
    case ErrorCode::kOutOfRange:
      return 422;
    case ErrorCode::kMismatch:
      return 409;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kUnavailable:
    case ErrorCode::kResource:
    case ErrorCode::kCancelled:
      return 503;
    case ErrorCode::kIo:
    case ErrorCode::kUntrustedResult:
      return 500;
  }
  return 500;
}

Error ErrorFromReply(int status, std::string_view body) {
  const auto unknown = [&] {
    return MakeError(ErrorCode::kUnavailable, "the server answered HTTP {} ({} bytes)", status,
                     body.size());
  };
  const auto json = wire::ParseJson(body, kMaxErrorBytes, "error reply");
  if (!json.ok()) return unknown();
  const auto field = wire::JsonField(*json, "error");
  if (!field.ok()) return unknown();
  const auto code = wire::JsonString(**field, "code", 64);
  const auto message = PeerText(**field, "message", kMaxMessageBytes);
  if (!code.ok() || !message.ok()) return unknown();
  for (const ErrorCode known : kAllCodes) {
    if (*code == ErrorCodeName(known)) return Error{known, "server: " + *message};
  }
  return unknown();
}

}  // namespace polyveil::serve
