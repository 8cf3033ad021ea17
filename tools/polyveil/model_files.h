// Where models are, and the client's half of one.
#pragma once

#include <string>
#include <vector>

#include "model/client/language_model.h"
#include "serve/protocol.h"

namespace polyveil::tools {

// `given`, or the embedded model: models/tiny of the working folder, of the build's source folder,
// or of the installation. Errors: kNotFound names the places.
Result<std::string> FindModel(const std::string& given);

struct ClientModel {
  std::string directory;
  model::ClientBundle bundle;
  model::Tokenizer tokenizer;
};
Result<ClientModel> LoadClientModel(const std::string& directory);

// Whether a server's model is this one. Errors: kMismatch, the field and both values.
Status CheckSameModel(const ClientModel& model, const serve::ModelInfo& info);

// kEnd, then the prompt's tokens (`ids` when given, else the text's). Errors: kInvalidArgument
// (empty), kOutOfRange (an unknown token; prompt and new tokens above the context; all values
// named).
Result<std::vector<model::TokenId>> PromptTokens(const ClientModel& model, const std::string& text,
                                                 const std::vector<int>& ids, int new_tokens);

}  // namespace polyveil::tools
