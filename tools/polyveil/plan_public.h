// What a public context would cost: `plan --public-tokens`.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "serve/server/served_model.h"

namespace polyveil::tools {

// For `tokens` public tokens and the rest of the served context encrypted: the served program,
// whose public keys lie in the caches, beside one with matrices of them and one for the rest alone.
// Prints a table, returns its numbers. Errors: those of CheckPublicTokens and CompileModel.
Result<nlohmann::json> PlanPublic(const serve::ServedModel& served, int tokens);

}  // namespace polyveil::tools
