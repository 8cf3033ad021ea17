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
  ckks::Ciphertext digits, residuals;
};

class ChoiceSession {
 public:
  // Of the engine of a choice's program (CompiledDecoder::choice) and the same client's keys.
  ChoiceSession(std::shared_ptr<const Engine> engine,
                std::shared_ptr<const compile::ChoiceProgram> program)
      : engine_(std::move(engine)), program_(std::move(program)) {}

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

  std::shared_ptr<const Engine> engine_;
  std::shared_ptr<const compile::ChoiceProgram> program_;
  std::vector<ChoicePage> pages_;
};

}  // namespace polyveil::runtime
