// Checked access to the fields of JSON that came from outside.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace polyveil::wire {

// The strict reader (model/strict_json.h) with the depth of a peer's JSON; at most max_bytes.
// Errors: kOutOfRange, kCorrupt (`what` named).
Result<nlohmann::json> ParseJson(std::string_view text, size_t max_bytes, std::string_view what);

// The object's field; kCorrupt when absent or when `object` is no object.
Result<const nlohmann::json*> JsonField(const nlohmann::json& object, const char* name);
// kCorrupt for another type, kOutOfRange outside [lo, hi] (both named).
Result<std::int64_t> JsonInteger(const nlohmann::json& object, const char* name, std::int64_t lo,
                                 std::int64_t hi);
Result<double> JsonNumber(const nlohmann::json& object, const char* name, double lo, double hi);
Result<std::string> JsonString(const nlohmann::json& object, const char* name, size_t max_bytes);
Result<bool> JsonBool(const nlohmann::json& object, const char* name);

}  // namespace polyveil::wire
