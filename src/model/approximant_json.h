// The file form of an approximant: {a, b, coeffs} and, where one refines the series,
// {refinement, order, shift, steps, correction}.
#pragma once

#include <nlohmann/json.hpp>

#include "approx/approximant.h"

namespace polyveil::model {

nlohmann::ordered_json ApproximantToJson(const approx::Approximant& p);

// Errors: kCorrupt, naming `where`, for fields that are missing, of another type, or not finite.
Result<approx::Approximant> ApproximantFromJson(const nlohmann::ordered_json& json,
                                                const std::string& where);

}  // namespace polyveil::model
