// The JSON form of a parameter description, for messages and the secret key's file.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "ckks/parameters.h"

namespace polyveil::wire {

nlohmann::json SpecToJson(const ckks::ParametersSpec& spec);

// Bounds every number before anything is built from it; Parameters::Create then checks security.
// Errors: kCorrupt (a field is missing or of another type), kOutOfRange (field, value, bounds).
Result<ckks::ParametersSpec> SpecFromJson(const nlohmann::json& json);

}  // namespace polyveil::wire
