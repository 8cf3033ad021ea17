// A decoder compiled for a parameter set: a layer, or a whole model's body. Weights stay where they
// are until a program runs.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "compile/choice_program.h"
#include "compile/compiled_program.h"
#include "compile/layout.h"
#include "compile/lower_block.h"
#include "model/decoder.h"

namespace polyveil::compile {

struct DecoderPrograms {
  // Public tokens that a text may have, which queries meet as matrices; the caches hold the rest of
  // the context. 0: public tokens lie in the caches.
  int known = 0;
  // Prompts at once too: in rows in buckets of d_head tokens and twice as many, up to a row's, or
  // in blocks in one for each number of ciphertexts, up to what the context fills
  // (TokenCiphertexts).
  bool prompts = false;
  // BlockLayout::divisor_apart; nothing: whichever is planned to be faster.
  std::optional<bool> divisor_apart = {};
  // Texts in one ciphertext, a token of each a step: a power of two (compile/texts.h).
  int texts = 1;
  // The server chooses tokens, by a program beside this one (compile/choice_program.h); null: the
  // client does.
  std::shared_ptr<const Choice> choice = nullptr;
};

class CompiledDecoder : public CompiledProgram {
 public:
  // Lowers, places bootstraps, assigns levels; of two ways to sum attention's divisor
  // (BlockLayout::divisor_apart) the faster one. Callers above the circuits use
  // runtime::CompileModel. Errors: those of ValidateBlock, BlockLayout::Create, CheckPublicTokens
  // and CheckPrompt, kInvalidArgument for no blocks or no context and for several texts of an
  // encoder or with prompts at once, kMismatch for blocks of different sizes or prefixes,
  // kOutOfRange when no placement fits.
  static Result<std::shared_ptr<const CompiledDecoder>> Create(
      std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
      const MachineSpeed& speed, const CircuitKeys& circuits, const DecoderPrograms& programs = {});

  // The programs of prompts at once, the shortest first: Program(n - 1) is that of n tokens, up to
  // prompt_tokens(), and leaves the caches that decoding goes on from. They need keys() of this
  // one.
  const std::vector<std::shared_ptr<CompiledDecoder>>& prompts() const { return prompts_; }

  // What chooses the next token from a step's result; null: nothing does. It needs keys() of this
  // one.
  std::shared_ptr<const ChoiceProgram> choice() const { return choice_; }

  // The index of the shortest that takes so many tokens; prompts().size() for none.
  size_t PromptFor(int tokens) const;

  // An encoder's own program is the longest for tokens at once, and prompts() has the same.
  // Tokens that a prompt's program takes at once; 0: of a decoding step.
  int prompt_tokens() const;
  TokenLayout token_layout() const {
    return {layout_.slots, layout_.attention.size, prompt_tokens(), room_ && room_->in_blocks()};
  }
  const BlockLayout& layout() const { return layout_; }
  const model::Decoder& decoder() const { return *decoder_; }
  MapDiagonals Diagonals(const LinearMap& map) const override;
  int state_count() const override;
  Result<std::vector<std::vector<Complex>>> KnownStates(
      const model::PublicContext* known) const override;
  int most_known() const override {
    if (!decoder_->causal()) return 0;
    return layout_.known_groups > 0 ? known_ : decoder_->context - 1;
  }
  int ContextBehind(int known) const override;
  bool reads_known() const override { return layout_.known_groups > 0; }
  // An encoder's text ends with its ciphertexts.
  int context() const override {
    return decoder_->causal() ? decoder_->context : std::min(decoder_->context, prompt_tokens());
  }
  int width() const override { return decoder_->width(); }
  // Values of a result's token.
  int result_width() const { return decoder_->head ? decoder_->head->labels() : width(); }
  int texts() const override { return layout_.texts; }

 private:
  Status PlanEncoder(const CircuitKeys& circuits);
  // What decoding reads its caches at.
  Status FillStateLevels();
  // A prompt in blocks leaves caches at lower levels than decoding may ask for.
  Status BoundCaches();
  Status AddChoice(const Choice& choice, const CircuitKeys& circuits);
  Status AddPrompts(const CircuitKeys& circuits);
  Status AddPromptsInBlocks(const CircuitKeys& circuits);
  Status AddPrompt(const CircuitKeys& circuits, PromptRoom room);
  // A step's and its prompts', then a choice's.
  Status PlanAllWeights();
  CompiledDecoder(std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
                  const MachineSpeed& speed);
  Result<Graph> Lower(int position, const std::shared_ptr<const model::PublicContext>& known,
                      std::span<const int> texts) const override;
  std::string Description() const override;

  std::shared_ptr<const model::Decoder> decoder_;
  BlockLayout layout_;
  int known_ = 0;
  std::optional<PromptRoom> room_;  // of a prompt's program
  std::vector<int> state_levels_;   // of a decoding step
  int most_cache_level_ = std::numeric_limits<int>::max();
  bool chooses_ = false;  // a result is bootstrapped
  std::vector<std::shared_ptr<CompiledDecoder>> prompts_;
  std::shared_ptr<ChoiceProgram> choice_;
};

}  // namespace polyveil::compile
