// Fields of the API's bodies, and how they are refused: by name.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace polyveil::serve {

inline constexpr size_t kMaxApiBodyBytes = size_t{1} << 20;

// The field that an error names first ("temperature: ..."); empty when it names none.
std::string FieldOf(const Error& error);

namespace api {

template <typename... Args>
Error Refuse(std::string_view field, fmt::format_string<Args...> format, Args&&... args) {
  return MakeError(ErrorCode::kInvalidArgument, "{}: {}", field,
                   fmt::format(format, std::forward<Args>(args)...));
}

// Errors: kCorrupt for what is no JSON or no object.
Result<nlohmann::json> ParseBody(std::string_view text);
// Null where the field is absent or null.
const nlohmann::json* Given(const nlohmann::json& body, const char* field);
Status Flag(const nlohmann::json& body, const char* field, bool& out);
Result<std::string> ModelOf(const nlohmann::json& body);

}  // namespace api
}  // namespace polyveil::serve
