// Blocks of a released architecture, one after another, compiled for a parameter set: a layer, or a
// whole model's body. Weights stay where they are until a program runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compile/block_layout.h"
#include "compile/compiled_program.h"
#include "model/block.h"

namespace polyveil::compile {

struct BlocksSpec {
  std::string name;  // goes into the digest
  std::vector<model::Block> blocks;
  int context = 1;    // tokens that a text may have at least
  double margin = 1;  // of the residual's bounds
};

class CompiledBlocks : public CompiledProgram {
 public:
  // Errors: those of ValidateBlock and BlockLayout::Create, kOutOfRange when no placement fits.
  static Result<std::shared_ptr<const CompiledBlocks>> Create(BlocksSpec spec,
                                                              ckks::ParametersPtr params,
                                                              const MachineSpeed& speed,
                                                              const CircuitKeys& circuits);

  const BlockLayout& layout() const { return layout_; }
  const BlocksSpec& spec() const { return spec_; }
  int prefix() const { return spec_.blocks.front().prefix(); }  // constant tokens before a text
  int state_count() const override;
  int context() const override { return layout_.keys() * layout_.chunks - prefix(); }
  int width() const override { return spec_.blocks.front().shape.d_model; }

 private:
  CompiledBlocks(BlocksSpec spec, ckks::ParametersPtr params, const MachineSpeed& speed);
  Result<Graph> Lower(int position) const override;
  std::string Description() const override;

  BlocksSpec spec_;
  BlockLayout layout_;
};

}  // namespace polyveil::compile
