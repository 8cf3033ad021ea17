// What a public context would cost: `plan --public-tokens`.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "ckks/parameters.h"
#include "model/decoder.h"

namespace polyveil::tools {

// Programs of the decoder for `tokens` public tokens and the rest of its context encrypted: public
// keys in the caches, and as matrices; beside them the rest alone. Prints a table, returns its
// numbers. Errors: those of CheckPublicTokens and CompileModel.
Result<nlohmann::json> PlanPublic(const model::Decoder& decoder, const ckks::ParametersPtr& params,
                                  int tokens);

}  // namespace polyveil::tools
