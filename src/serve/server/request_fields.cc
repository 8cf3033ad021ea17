#include "serve/server/request_fields.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

Result<json> RequestJson(const Exchange& exchange, size_t max_bytes) {
  const wire::Bytes& body = exchange.request().body;
  return wire::ParseJson({reinterpret_cast<const char*>(body.data()), body.size()}, max_bytes,
                         "request body");
}

size_t BeginningJsonBytes(const ModelInfo& info) {
  return kMaxRequestJsonBytes + kTokenJsonBytes * static_cast<size_t>(info.public_tokens);
}

Status CheckFields(const json& object, const char* what, std::initializer_list<const char*> names) {
  if (!object.is_object()) return MakeError(ErrorCode::kCorrupt, "{} is no object", what);
  for (const auto& [field, value] : object.items())
    if (std::ranges::find(names, field) == names.end())
      return MakeError(ErrorCode::kCorrupt, "{}: unknown field '{}'", what,
                       Printable(field.substr(0, 64)));
  return {};
}

Result<std::vector<std::int32_t>> TokensFromJson(const json& object, int most) {
  PV_ASSIGN_OR_RETURN(const json* tokens, wire::JsonField(object, "tokens"));
  if (!tokens->is_array() || tokens->size() > static_cast<size_t>(most))
    return MakeError(
        ErrorCode::kOutOfRange, "field 'public.tokens': {}, not an array of at most {}",
        tokens->is_array() ? std::to_string(tokens->size()) : tokens->type_name(), most);
  std::vector<std::int32_t> ids;
  for (const json& token : *tokens) {
    const bool whole = token.is_number_integer() && token >= 0 && token <= INT32_MAX;
    if (!whole)
      return MakeError(ErrorCode::kCorrupt, "field 'public.tokens': entry {} is no token",
                       ids.size());
    ids.push_back(token.get<std::int32_t>());
  }
  return ids;
}

Result<std::string> RequestId(const json& body) {
  if (!body.is_object() || !body.contains("request_id")) return std::string();
  return wire::JsonString(body, "request_id", 64);
}

Result<u64> ParseIndex(const char* what, const std::string& text) {
  u64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  return MakeError(ErrorCode::kInvalidArgument, "{} '{}' is no number", what, text.substr(0, 32));
}

}  // namespace polyveil::serve
