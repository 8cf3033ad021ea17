// How the proxy's handlers answer: each returns the reply's status.
#pragma once

#include <string>

#include "serve/client/proxy/openai_reply.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

int Answer(Exchange& exchange, int status, std::string text, const char* type = "application/json");
int Refuse(Exchange& exchange, const ApiError& error);
std::string_view BodyOf(const Exchange& exchange);

}  // namespace polyveil::serve
