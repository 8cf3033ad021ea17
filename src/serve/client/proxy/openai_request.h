// Requests of the OpenAI API. What can be honoured on ciphertexts is read; everything else is
// refused by its name, never ignored.
#pragma once

#include "serve/client/proxy/api_fields.h"
#include "serve/client/proxy/text_engine.h"

namespace polyveil::serve {

// A body of /v1/chat/completions, or of /v1/completions. Errors: kInvalidArgument, the field named
// first ("temperature: ..."); kCorrupt for what is no JSON.
Result<TextRequest> ParseTextRequest(std::string_view body, bool chat);

}  // namespace polyveil::serve
