// A decoder compiled for a parameter set: a layer, or a whole model's body. Weights stay where they
// are until a program runs.
#pragma once

#include <memory>
#include <string>

#include "compile/compiled_program.h"
#include "compile/layout.h"
#include "model/decoder.h"

namespace polyveil::compile {

class CompiledDecoder : public CompiledProgram {
 public:
  // Lowers, places bootstraps, assigns levels; callers above the circuits use
  // runtime::CompileModel. known: public tokens that a text may have, which queries meet as
  // matrices; the caches hold the rest of the context. 0: public tokens lie in the caches. Errors:
  // those of ValidateBlock, BlockLayout::Create and CheckPublicTokens, kInvalidArgument for no
  // blocks or no context, kMismatch for blocks of different sizes or prefixes, kOutOfRange when no
  // placement fits.
  static Result<std::shared_ptr<const CompiledDecoder>> Create(
      std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
      const MachineSpeed& speed, const CircuitKeys& circuits, int known = 0);

  // The program of prompts at once beside `step`'s, a decoding one's: Program(n - 1) is that of n
  // tokens, up to `groups` d_head of them, and leaves what `step` goes on from. Errors: as
  // Create's, those of CheckPrompt.
  static Result<std::shared_ptr<const CompiledDecoder>> CreatePrompt(const CompiledDecoder& step,
                                                                     const CircuitKeys& circuits,
                                                                     int groups);

  // Tokens that a prompt's program takes at once; 0: of a decoding step.
  int prompt_tokens() const;
  const BlockLayout& layout() const { return layout_; }
  const model::Decoder& decoder() const { return *decoder_; }
  MapDiagonals Diagonals(const LinearMap& map) const override;
  int state_count() const override;
  Result<std::vector<std::vector<Complex>>> KnownStates(
      const model::PublicContext* known) const override;
  int most_known() const override {
    return layout_.known_groups > 0 ? known_ : decoder_->context - 1;
  }
  int ContextBehind(int known) const override;
  bool reads_known() const override { return layout_.known_groups > 0; }
  int context() const override { return decoder_->context; }
  int width() const override { return decoder_->width(); }

 private:
  CompiledDecoder(std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
                  const MachineSpeed& speed);
  Result<Graph> Lower(int position,
                      const std::shared_ptr<const model::PublicContext>& known) const override;
  std::string Description() const override;

  std::shared_ptr<const model::Decoder> decoder_;
  BlockLayout layout_;
  int known_ = 0;
  int groups_ = 0;                 // of a prompt's program
  std::vector<int> state_levels_;  // of a decoding step
};

}  // namespace polyveil::compile
