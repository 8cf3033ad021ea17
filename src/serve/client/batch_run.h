// Several texts on one session, a token of each a step: they begin together, each goes on behind
// its own prompt, and one that has ended goes on unseen until all have.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "serve/client/text_run.h"

namespace polyveil::serve {

// One of them, and its tokens. Seconds of a token are those of its step, which all share.
struct BatchedText {
  std::string prompt, text;
  std::string end;  // model::TextEndName
  int generated = 0;
  std::vector<TokenReport> tokens;
};

class BatchRun {
 public:
  // Gets embeddings and logits of a step by text; fills what it finds into those texts' reports
  // that are not null (others have ended). An error ends all texts.
  using Check = std::function<Status(std::span<const std::vector<double>> embeddings,
                                     std::span<const std::vector<double>> logits,
                                     std::span<TokenReport* const> reports)>;
  // Everything given outlives the run; what the texts are goes into `texts`, one for each prompt,
  // what they have cost together into `report`, whose info is the server's.
  BatchRun(const model::ClientHalf& half, int context, EncryptedSession& session,
           const TextRunOptions& options, Check check, TextObserver& observer, TextReport& report,
           std::vector<BatchedText>& texts)
      : half_(half),
        context_(context),
        session_(session),
        options_(options),
        check_(std::move(check)),
        observer_(observer),
        report_(report),
        texts_(texts) {}

  // prompts: what stands before every text, then a prompt's tokens. Text i draws by the seed + i.
  // Errors: as TextRun::Continue's; what was picked by then stands in the texts.
  Status Run(std::span<const std::vector<model::TokenId>> prompts, int new_tokens);

 private:
  struct Member;
  using Vectors = std::vector<std::vector<double>>;

  Status Begin(std::span<const std::vector<model::TokenId>> prompts, int new_tokens);
  Status Step();
  Result<Vectors> Ask(const Vectors& embeddings);
  Status Take(const Vectors& embeddings, const Vectors& logits);
  void Finish();
  int GoingOn() const;

  const model::ClientHalf& half_;
  const int context_;
  EncryptedSession& session_;
  const TextRunOptions options_;
  const Check check_;
  TextObserver& observer_;
  TextReport& report_;
  std::vector<BatchedText>& texts_;
  std::vector<std::shared_ptr<Member>> members_;
  int total_ = 0;  // steps, if no text ends early
  int steps_ = 0;
  double step_seconds_ = 0, server_seconds_ = 0;  // of the last one
};

}  // namespace polyveil::serve
