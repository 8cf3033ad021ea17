// Several prompts of `generate`, decoded together: a token of each a step.
#pragma once

#include <string>
#include <vector>

#include "polyveil/model_session.h"

namespace polyveil::tools {

struct TextsOptions {
  std::vector<std::string> prompts;
  int new_tokens = 12;
  bool check = false;
  serve::TextRunOptions run;
};

// The prompts of a file, one a line, empty lines left out. Errors: those of ReadPrompt,
// kInvalidArgument for none.
Result<std::vector<std::string>> ReadPrompts(const std::string& path);

// Each with what stands before every text. Errors: EncodePrompt's, which prompt.
Result<std::vector<std::vector<model::TokenId>>> EncodePrompts(
    const model::ClientHalf& half, const std::vector<std::string>& prompts, int context);

// Runs them on a session that is connected, as far as texts and costs go into the report. Errors:
// kOutOfRange for more than the server decodes together or a prompt beyond the context (which one),
// those of the session.
Status GenerateTexts(const TextsOptions& options, ModelSession& session, RunReport& report);

}  // namespace polyveil::tools
