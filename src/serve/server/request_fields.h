// What requests to the service hold, read and bounded.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "serve/protocol.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

// The body of a request. Errors: those of wire::ParseJson.
Result<nlohmann::json> RequestJson(const Exchange& exchange,
                                   size_t max_bytes = kMaxRequestJsonBytes);
// Of a text's beginning, its public context included.
size_t BeginningJsonBytes(const ModelInfo& info);
// Errors: kCorrupt for a field that is none of `names`, or no object.
Status CheckFields(const nlohmann::json& object, const char* what,
                   std::initializer_list<const char*> names);
// "tokens" of a public context. What the model says of them comes later.
Result<std::vector<std::int32_t>> TokensFromJson(const nlohmann::json& object, int most);
// Optional; repeated when the reply to it was lost.
Result<std::string> RequestId(const nlohmann::json& body);
Result<u64> ParseIndex(const char* what, const std::string& text);

}  // namespace polyveil::serve
