// The programs around a choice: a step's result in, the next step's input out; and a prompt's token
// from its bits, for a client without an embedding.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compile/choice_lowering.h"
#include "compile/compiled_program.h"

namespace polyveil::compile {

// The decoder that a choice stands beside.
struct ChoosingDecoder {
  double residual_unit = 1, input_unit = 1;
  int input_level = 0;
  int context = 1, prefix = 0, width = 0;
};

class ChoiceProgram : public CompiledProgram {
 public:
  // Both, without PlanAllWeights. Errors: kMismatch for tables of another width, those of
  // ChoiceLayout::Create and of PlaceBootstraps.
  static Result<std::shared_ptr<ChoiceProgram>> Create(Choice choice,
                                                       const ChoosingDecoder& decoder,
                                                       ckks::ParametersPtr params,
                                                       const MachineSpeed& speed,
                                                       const CircuitKeys& circuits);

  // Of a choice: what reads a prompt's token, and needs keys() of this one. It keeps no state.
  std::shared_ptr<const ChoiceProgram> prompt() const { return prompt_; }
  // What both keep of their weights' plaintexts in so many bytes.
  Status PlanAllWeights(size_t room);

  const Choice& choice() const { return choice_; }
  const ChoiceLayout& layout() const { return layout_; }
  size_t page_bytes() const;  // that the client reads for as many tokens as a page has

  MapDiagonals Diagonals(const LinearMap& map) const override;
  // The pages of bits and residuals; the noise of one choice is no state that goes on.
  int state_count() const override { return prompt_ ? 2 : 0; }
  Result<std::vector<std::vector<Complex>>> KnownStates(
      const model::PublicContext* known) const override;
  int most_known() const override { return 0; }
  int ContextBehind(int) const override { return decoder_.context; }
  bool reads_known() const override { return false; }
  int context() const override { return decoder_.context; }
  int width() const override { return decoder_.width; }
  int texts() const override { return 1; }

 private:
  ChoiceProgram(Choice choice, const ChoosingDecoder& decoder, const ChoiceLayout& layout,
                ckks::ParametersPtr params, const MachineSpeed& speed, bool chooses);
  ChoicePlace Place() const;
  Result<Graph> Lower(int position, const std::shared_ptr<const model::PublicContext>& known,
                      std::span<const int> texts) const override;
  std::string Description() const override;

  const Choice choice_;
  const ChoosingDecoder decoder_;
  const ChoiceLayout layout_;
  const bool chooses_;  // otherwise it reads a prompt's token
  std::shared_ptr<ChoiceProgram> prompt_;
};

}  // namespace polyveil::compile
