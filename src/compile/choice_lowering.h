// Lowers a choice of the next token (model/choice.h) to operations on slots, without levels: the
// last norm, the head, the rounds of an argmax by sharpening, the bits that the client reads, and
// the embedding of what was chosen (docs/decisions/0027-the-server-chooses.md).
#pragma once

#include <memory>

#include "base/result.h"
#include "compile/block_matrices.h"
#include "compile/choice_layout.h"
#include "compile/graph.h"
#include "model/choice.h"

namespace polyveil::compile {

struct Choice {
  std::shared_ptr<const model::ChoiceTables> tables;
  model::ChoiceForms forms;
};

// What a choice stands between: the decoder's result and its next input.
struct ChoicePlace {
  double residual_unit = 1, input_unit = 1;
  int residual_level = 0;  // at which the residual comes
  int input_level = 0;     // at which the next token is read
  int log_slots = 0;
  int prefix = 0;  // constant tokens before a text
};

// States of the graph. The noise is loaded anew for each choice, the pages go on.
inline constexpr int kBitsState = 0, kResidualsState = 1, kNoiseState = 2;

// Input: the residual behind the last block. Output: the next token's embedding in its unit, at
// `input_level`. position: of the token whose residual it is. The shape is the same at every
// position.
Graph LowerChoice(const Choice& choice, const ChoiceLayout& layout, const ChoicePlace& place,
                  int position);

// A token of a prompt from its bits, as the message of its position holds them (ChoiceLayout).
// Input: the message. Output: as LowerChoice's, of the token at `position`.
Graph LowerPromptToken(const Choice& choice, const ChoiceLayout& layout, const ChoicePlace& place,
                       int position);

// The noise of a choice (model::ChoiceNoise) as the slots of its state.
std::vector<Complex> ChoiceNoiseSlots(const Choice& choice, const ChoiceLayout& layout,
                                      std::span<const double> noise);

// The diagonals of its two maps. choice: outlives them.
MapDiagonals ChoiceDiagonals(const LinearMap& map, const Choice& choice, const ChoiceLayout& layout,
                             const ChoicePlace& place);

}  // namespace polyveil::compile
