// What the owner of a submitted text keeps of it: where it runs and what it began with.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "model/client/tokenizer.h"

namespace polyveil::tools {

struct JobFile {
  std::string server;                  // URL
  std::string job;                     // the server's name
  std::string tensors_sha256;          // of the model
  std::string key_id;                  // hexadecimal
  std::vector<model::TokenId> prompt;  // behind the constant prefix, public tokens first
  int public_tokens = 0;
  int new_tokens = 0;

  int first_chosen() const { return static_cast<int>(prompt.size()) - 1; }  // position
};

// For its owner alone (mode 0600): it holds the prompt. Errors: those of WriteFile.
Status WriteJobFile(const std::string& path, const JobFile& job);
// Errors: kIo, kCorrupt, kMismatch; the field named.
Result<JobFile> ReadJobFile(const std::string& path);

}  // namespace polyveil::tools
