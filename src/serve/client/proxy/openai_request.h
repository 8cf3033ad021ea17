// Requests of the OpenAI API. What can be honoured on ciphertexts is read; everything else is
// refused by its name, never ignored.
#pragma once

#include "serve/client/proxy/text_engine.h"

namespace polyveil::serve {

inline constexpr size_t kMaxApiBodyBytes = size_t{1} << 20;

// A body of /v1/chat/completions, or of /v1/completions. Errors: kInvalidArgument, the field named
// first ("temperature: ..."); kCorrupt for what is no JSON.
Result<TextRequest> ParseTextRequest(std::string_view body, bool chat);

// The field that such an error names; empty when it names none.
std::string FieldOf(const Error& error);

}  // namespace polyveil::serve
