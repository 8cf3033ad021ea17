// A decoder's blocks, one after another, compiled for a parameter set: a layer, or a whole model's
// body. Weights stay where they are until a program runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compile/block_layout.h"
#include "compile/compiled_program.h"
#include "model/decoder.h"

namespace polyveil::compile {

class CompiledDecoder : public CompiledProgram {
 public:
  // Errors: those of ValidateBlock and BlockLayout::Create, kOutOfRange when no placement fits.
  static Result<std::shared_ptr<const CompiledDecoder>> Create(model::Decoder decoder,
                                                               ckks::ParametersPtr params,
                                                               const MachineSpeed& speed,
                                                               const CircuitKeys& circuits);

  const BlockLayout& layout() const { return layout_; }
  const model::Decoder& decoder() const { return decoder_; }
  int prefix() const { return decoder_.prefix(); }
  int state_count() const override;
  int context() const override { return layout_.keys() * layout_.chunks - prefix(); }
  int width() const override { return decoder_.width(); }

 private:
  CompiledDecoder(model::Decoder decoder, ckks::ParametersPtr params, const MachineSpeed& speed);
  Result<Graph> Lower(int position) const override;
  std::string Description() const override;

  model::Decoder decoder_;
  BlockLayout layout_;
};

}  // namespace polyveil::compile
