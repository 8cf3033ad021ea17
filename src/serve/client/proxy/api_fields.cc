#include "serve/client/proxy/api_fields.h"

#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

std::string FieldOf(const Error& error) {
  const bool of_request =
      error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kOutOfRange;
  const size_t end = error.message.find(": ");
  if (!of_request || end == std::string::npos) return {};
  const std::string field = error.message.substr(0, end);
  return field.find(' ') == std::string::npos ? field : std::string();
}

namespace api {

Result<json> ParseBody(std::string_view text) {
  PV_ASSIGN_OR_RETURN(json body, wire::ParseJson(text, kMaxApiBodyBytes, "request body"));
  if (!body.is_object()) return MakeError(ErrorCode::kCorrupt, "request body: it is no object");
  return body;
}

const json* Given(const json& body, const char* field) {
  const auto found = body.find(field);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

Status Flag(const json& body, const char* field, bool& out) {
  const json* value = Given(body, field);
  if (!value) return {};
  if (!value->is_boolean()) return Refuse(field, "{}, not true or false", value->type_name());
  out = value->get<bool>();
  return {};
}

Result<std::string> ModelOf(const json& body) {
  const json* name = Given(body, "model");
  if (!name || !name->is_string()) return Refuse("model", "no text");
  return name->get<std::string>();
}

}  // namespace api
}  // namespace polyveil::serve
