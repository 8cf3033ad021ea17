#include "compile/compiled_blocks.h"

#include <algorithm>
#include <utility>

#include "compile/layout.h"
#include "compile/lower_block.h"

namespace polyveil::compile {
namespace {

// The bound with its margin, and as much more as makes the argument of the norm that reads it free.
double ResidualUnit(const BlocksSpec& spec, double bound, const approx::Approximant* norm) {
  const double unit = bound > 0 ? bound * std::max(1.0, spec.margin) : 1;
  return norm != nullptr ? UnitForNorm(unit, spec.blocks.front().shape.d_model, *norm) : unit;
}

ResidualUnits UnitsOf(const BlocksSpec& spec) {
  ResidualUnits units;
  const auto& first = spec.blocks.front().forms;
  units.input = ResidualUnit(spec, first.bounds.residual_in, &first.norm1);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const model::LayerConfig& forms = spec.blocks[i].forms;
    const bool last = i + 1 == spec.blocks.size();
    units.middle.push_back(ResidualUnit(spec, forms.bounds.residual_mid, &forms.norm2));
    units.output.push_back(ResidualUnit(spec, forms.bounds.residual_out,
                                        last ? nullptr : &spec.blocks[i + 1].forms.norm1));
  }
  return units;
}

}  // namespace

CompiledBlocks::CompiledBlocks(BlocksSpec spec, ckks::ParametersPtr params,
                               const MachineSpeed& speed)
    : CompiledProgram(std::move(params), speed, UnitsOf(spec)), spec_(std::move(spec)) {}

Result<std::shared_ptr<const CompiledBlocks>> CompiledBlocks::Create(BlocksSpec spec,
                                                                     ckks::ParametersPtr params,
                                                                     const MachineSpeed& speed,
                                                                     const CircuitKeys& circuits) {
  if (spec.blocks.empty())
    return MakeError(ErrorCode::kInvalidArgument, "{}: a program of 0 blocks", spec.name);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const model::Block& block = spec.blocks[i];
    PV_RETURN_IF_ERROR(model::ValidateBlock(block, fmt::format("block {}", i)));
    if (block.prefix() != spec.blocks.front().prefix())
      return MakeError(ErrorCode::kMismatch, "block {}: a prefix of {} tokens, block 0 has {}", i,
                       block.prefix(), spec.blocks.front().prefix());
  }
  std::shared_ptr<CompiledBlocks> result(
      new CompiledBlocks(std::move(spec), std::move(params), speed));
  const BlocksSpec& kept = result->spec_;
  PV_ASSIGN_OR_RETURN(result->layout_, BlockLayout::Create(kept.blocks.front().shape,
                                                           kept.context + result->prefix(),
                                                           result->params()->log_slots()));
  PV_RETURN_IF_ERROR(result->Plan(circuits));
  return std::shared_ptr<const CompiledBlocks>(std::move(result));
}

int CompiledBlocks::state_count() const {
  return static_cast<int>(spec_.blocks.size()) * layout_.chunks;
}

Result<Graph> CompiledBlocks::Lower(int position) const {
  if (position < 0 || position >= context()) {
    return MakeError(ErrorCode::kOutOfRange, "position = {} outside the context of {} tokens",
                     position, context());
  }
  GraphBuilder builder(params()->log_slots());
  builder.Enter(-1, Component::kInput, "");
  NodeId x = builder.Input("token", Log2(layout_.width));
  builder.SetMagnitude(x, 1);
  for (int i = 0; i < static_cast<int>(spec_.blocks.size()); ++i) {
    const size_t at = static_cast<size_t>(i);
    x = LowerBlock(builder,
                   {spec_.blocks[at], layout_, i, position + prefix(), units().LayerInput(i),
                    units().middle[at], units().output[at]},
                   x);
  }
  builder.graph().output = x;
  return std::move(builder.graph());
}

std::string CompiledBlocks::Description() const {
  return fmt::format("{}: {} blocks, {} keys behind {}", spec_.name, spec_.blocks.size(), context(),
                     prefix());
}

}  // namespace polyveil::compile
