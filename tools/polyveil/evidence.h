// A demonstration run as files: what went up and came down, the tokens, the run's own secret key. A
// stranger checks it with `polyveil verify` (docs/formats/evidence.md).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ckks/client/secret_key.h"
#include "model/client/tokenizer.h"
#include "polyveil/run_report.h"
#include "serve/client/remote_model.h"

namespace polyveil::tools {

struct EvidenceStep {
  int position = 0;
  int token = 0;  // that was fed
  int next = -1;  // that was picked; -1: none, inside the prompt
};

struct Evidence {
  std::string model, tensors_sha256, parameters, parameters_digest, program_digest, key_id;
  int context = 0;
  std::vector<model::TokenId> before;  // the prefix and public tokens
  std::vector<EvidenceStep> steps;
};

class EvidenceFolder {
 public:
  // Makes the folder, which must not be there yet. Errors: kIo, kInvalidArgument.
  static Result<EvidenceFolder> Create(const std::string& path);
  // Keeps every step's messages from now on. The folder outlives the steps.
  void Watch(serve::RemoteModel& remote);
  // The rest of it. Errors: the first of any write.
  Status Finish(const ckks::SecretKey& key, const serve::ModelInfo& info, int context,
                std::span<const model::TokenId> before, const RunReport& report);

 private:
  explicit EvidenceFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
  Status status_;
};

std::string EvidenceKeyPath(const std::string& folder);
// Of a step: what went up, what came down.
std::string EvidenceMessagePath(const std::string& folder, int position, bool up);
// Errors: those of reading and parsing, the field named.
Result<Evidence> ReadEvidence(const std::string& folder);

}  // namespace polyveil::tools
