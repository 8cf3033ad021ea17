// What handlers of requests share.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "serve/server/http_server.h"

namespace polyveil::serve {

// "/v1/keys/7" -> v1, keys, 7; at most eight.
std::vector<std::string> PathSegments(std::string_view path);
Error NoRoute(const Exchange& exchange);
// A client that is gone has no use for an error: neither says whether it arrived.
Status ReplyJson(Exchange& exchange, int status, const nlohmann::json& body);
void ReplyError(Exchange& exchange, const Error& error);
Status ReplyRefusal(Exchange& exchange, const Refusal& refusal);

}  // namespace polyveil::serve
