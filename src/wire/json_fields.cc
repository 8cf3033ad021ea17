#include "wire/json_fields.h"

#include "model/strict_json.h"

namespace polyveil::wire {
namespace {

constexpr int kMaxJsonDepth = 12;  // what a peer sends nests five deep

}  // namespace

using nlohmann::json;

Result<json> ParseJson(std::string_view text, size_t max_bytes, std::string_view what) {
  return model::ParseStrictJson(text, what, {max_bytes, kMaxJsonDepth});
}

Result<const json*> JsonField(const json& object, const char* name) {
  if (!object.is_object()) {
    return MakeError(ErrorCode::kCorrupt, "field '{}': its parent is {}, not an object", name,
                     object.type_name());
  }
  const auto found = object.find(name);
  if (found == object.end()) return MakeError(ErrorCode::kCorrupt, "field '{}' is missing", name);
  return &*found;
}

Result<std::int64_t> JsonInteger(const json& object, const char* name, std::int64_t lo,
                                 std::int64_t hi) {
  PV_ASSIGN_OR_RETURN(const json* field, JsonField(object, name));
  if (!field->is_number_integer()) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is {}, not an integer", name,
                     field->type_name());
  }
  // Integers above 2^63 wrap to negative ones, which no bound here admits unless it names them.
  const bool huge = field->is_number_unsigned() && field->get<std::uint64_t>() > INT64_MAX;
  const std::int64_t value = huge ? INT64_MAX : field->get<std::int64_t>();
  if (huge || value < lo || value > hi) {
    return MakeError(ErrorCode::kOutOfRange, "field '{}' = {} is outside [{}, {}]", name,
                     field->dump(), lo, hi);
  }
  return value;
}

Result<double> JsonNumber(const json& object, const char* name, double lo, double hi) {
  PV_ASSIGN_OR_RETURN(const json* field, JsonField(object, name));
  if (!field->is_number()) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is {}, not a number", name,
                     field->type_name());
  }
  const double value = field->get<double>();
  if (!std::isfinite(value) || value < lo || value > hi) {
    return MakeError(ErrorCode::kOutOfRange, "field '{}' = {} is outside [{}, {}]", name, value, lo,
                     hi);
  }
  return value;
}

Result<std::string> JsonString(const json& object, const char* name, size_t max_bytes) {
  PV_ASSIGN_OR_RETURN(const json* field, JsonField(object, name));
  if (!field->is_string()) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is {}, not a string", name,
                     field->type_name());
  }
  const auto& text = field->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    return MakeError(ErrorCode::kOutOfRange, "field '{}' has {} bytes, at most {}", name,
                     text.size(), max_bytes);
  }
  return text;
}

Result<bool> JsonBool(const json& object, const char* name) {
  PV_ASSIGN_OR_RETURN(const json* field, JsonField(object, name));
  if (!field->is_boolean()) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is {}, not true or false", name,
                     field->type_name());
  }
  return field->get<bool>();
}

}  // namespace polyveil::wire
