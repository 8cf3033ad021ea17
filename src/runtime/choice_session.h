// Tokens that the server chooses, on ciphertexts: what runs behind each step of a text whose client
// has left. Public keys only.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "compile/choice_program.h"
#include "runtime/decoder_session.h"

namespace polyveil::runtime {

// The choices of some tokens, as the client decrypts them (compile/choice_layout.h).
struct ChoicePage {
  int first = 0;  // position of the first token whose choice stands in it
  int last = -1;  // and of the last one so far
  ckks::Ciphertext bits, residuals;
};

// Of a choice's programs and one client's keys.
struct ChoiceEngines {
  // weights: of a choice's program (CompiledDecoder::choice). Errors: those of Engine::Create.
  static Result<std::shared_ptr<const ChoiceEngines>> Create(
      const std::shared_ptr<WeightStore>& weights,
      const std::shared_ptr<const ckks::EvaluationKeys>& keys,
      std::shared_ptr<const compile::ChoiceProgram> program);

  std::shared_ptr<const compile::ChoiceProgram> program;
  std::shared_ptr<const Engine> choice, prompt;
};

class ChoiceSession {
 public:
  explicit ChoiceSession(std::shared_ptr<const ChoiceEngines> engines)
      : engines_(std::move(engines)) {}

  // The input of the step at `position` from the message that has its token's bits
  // (compile/choice_layout.h). Errors: as Choose's.
  Result<ckks::Ciphertext> Embed(const ckks::Ciphertext& message, int position,
                                 const StepOptions& options) const;

  // residual: what the step of the token at `position` has left. Returns the next step's input.
  // noise: model::ChoiceNoise, or none for the largest logit. Errors: kOutOfRange beyond the
  // context, kMismatch of level or scale, kCancelled; the pages change only on success.
  Result<ckks::Ciphertext> Choose(const ckks::Ciphertext& residual, int position,
                                  std::span<const double> noise, const StepOptions& options);

  // What was chosen so far, in order; the last page goes on.
  const std::vector<ChoicePage>& pages() const { return pages_; }
  // Goes on with pages that were kept elsewhere.
  void Restore(std::vector<ChoicePage> pages) { pages_ = std::move(pages); }

 private:
  Result<std::vector<ckks::Ciphertext>> States(const compile::Graph& graph, const ChoicePage* page,
                                               std::span<const double> noise) const;

  const compile::ChoiceProgram& program() const { return *engines_->program; }

  std::shared_ptr<const ChoiceEngines> engines_;
  std::vector<ChoicePage> pages_;
};

}  // namespace polyveil::runtime
