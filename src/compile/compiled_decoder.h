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
  // runtime::CompileModel. Errors: those of ValidateBlock and BlockLayout::Create, kInvalidArgument
  // for no blocks or no context, kMismatch for blocks of different sizes or prefixes, kOutOfRange
  // when no placement fits.
  static Result<std::shared_ptr<const CompiledDecoder>> Create(
      std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
      const MachineSpeed& speed, const CircuitKeys& circuits);

  const BlockLayout& layout() const { return layout_; }
  const model::Decoder& decoder() const { return *decoder_; }
  MapDiagonals Diagonals(const LinearMap& map) const override;
  int state_count() const override;
  int context() const override { return decoder_->context; }
  int width() const override { return decoder_->width(); }

 private:
  CompiledDecoder(std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
                  const MachineSpeed& speed);
  Result<Graph> Lower(int position) const override;
  std::string Description() const override;

  std::shared_ptr<const model::Decoder> decoder_;
  BlockLayout layout_;
};

}  // namespace polyveil::compile
