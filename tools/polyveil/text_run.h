// The loop of generation on a server: tokens in, ciphertexts up and down, the next token out.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "model/client/language_model.h"
#include "model/client/sampling.h"
#include "polyveil/model_files.h"
#include "polyveil/run_report.h"
#include "runtime/compile_model.h"
#include "runtime/simulator.h"
#include "serve/client/encrypted_session.h"

namespace polyveil::tools {

// Whether standard output takes the text piece by piece. It does not where it is a terminal, whose
// lines of progress show the pieces already, nor where progress goes to the same file: the two
// would mix. Such a one gets the whole text at the end.
bool StreamsText();

// Compares each step with the float64 polynomial model, which needs nothing but the prompt's
// owner's data. What may differ is what the noise model predicts: a simulated run goes beside it.
class ReferenceCheck {
 public:
  // Errors: those of the body's loader and of the compiler.
  static Result<std::unique_ptr<ReferenceCheck>> Create(const ClientModel& model,
                                                        const ckks::ParametersPtr& params);
  // Feeds the text's last token, given with its embedding. Fills the report's error, allowed error
  // and agreement.
  Status Compare(model::TokenId token, const std::vector<double>& embedding,
                 const std::vector<double>& logits, TokenReport& report);

 private:
  ReferenceCheck(std::shared_ptr<const compile::CompiledDecoder> program, const ClientModel& model);

  const model::ClientBundle& client_;
  std::shared_ptr<const compile::CompiledDecoder> program_;
  model::ReferenceLanguageModel reference_;
  runtime::Simulator simulator_;
  double allowed_ = 0;
};

struct TextRunOptions {
  int new_tokens = 12;
  model::SamplingOptions sampling;
  bool check = false;
  // All new_tokens are run, whatever they are: the server sees neither an end mark nor a result
  // that the client refuses.
  bool fixed_length = false;
};

class TextRun {
 public:
  // Everything given outlives the run; results go into `report` as they come.
  TextRun(const ClientModel& model, serve::EncryptedSession& session, const TextRunOptions& options,
          RunReport& report)
      : model_(model),
        session_(session),
        options_(options),
        report_(report),
        sampler_(options.sampling) {}

  // Feeds `tokens`, then each picked token, until new_tokens are picked or the story ends. Text
  // goes to stdout, progress to stderr.
  Status Run(std::vector<model::TokenId> tokens);

 private:
  Status RunToEnd(std::vector<model::TokenId> tokens);
  Status Pad(size_t total, const Status& status);
  Result<std::vector<double>> Feed(std::span<const model::TokenId> text, size_t total,
                                   TokenReport& report);
  Status Pick(const std::vector<double>& logits, TokenReport& report);
  void Account(const serve::SessionStep& step, double head_seconds, double total_seconds);
  void Show(const TokenReport& token, size_t index, size_t total);

  const ClientModel& model_;
  serve::EncryptedSession& session_;
  const TextRunOptions options_;
  RunReport& report_;
  model::Sampler sampler_;
  std::unique_ptr<ReferenceCheck> check_;
};

}  // namespace polyveil::tools
