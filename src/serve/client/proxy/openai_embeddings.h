// Requests and replies of /v1/embeddings. What cannot be honoured is refused by its name.
#pragma once

#include "serve/client/proxy/embedding_engine.h"

namespace polyveil::serve {

// Errors: kInvalidArgument, the field named first ("dimensions: ..."); kCorrupt for what is no
// JSON.
Result<EmbeddingRequest> ParseEmbeddingRequest(std::string_view body);

// The API's list of embeddings. tokens: of all texts.
std::string EmbeddingReply(const EmbeddingRequest& request, size_t tokens,
                           const std::vector<std::vector<double>>& vectors);

}  // namespace polyveil::serve
