#include "compile/compiled_decoder.h"

#include <algorithm>
#include <utility>

#include "compile/layout.h"
#include "compile/lower_block.h"

namespace polyveil::compile {
namespace {

// The bound with its margin, and as much more as makes the argument of the norm that reads it free.
double ResidualUnit(const model::Decoder& decoder, double bound, const approx::Approximant* norm) {
  const double unit = bound > 0 ? bound * std::max(1.0, decoder.margin) : 1;
  return norm != nullptr ? UnitForNorm(unit, decoder.blocks.front().shape.d_model, *norm) : unit;
}

ResidualUnits UnitsOf(const model::Decoder& decoder) {
  ResidualUnits units;
  const auto& first = decoder.blocks.front().forms;
  units.input = ResidualUnit(decoder, first.bounds.residual_in, &first.norm1);
  for (size_t i = 0; i < decoder.blocks.size(); ++i) {
    const model::LayerConfig& forms = decoder.blocks[i].forms;
    const bool last = i + 1 == decoder.blocks.size();
    units.middle.push_back(ResidualUnit(decoder, forms.bounds.residual_mid, &forms.norm2));
    units.output.push_back(ResidualUnit(decoder, forms.bounds.residual_out,
                                        last ? nullptr : &decoder.blocks[i + 1].forms.norm1));
  }
  return units;
}

}  // namespace

CompiledDecoder::CompiledDecoder(model::Decoder decoder, ckks::ParametersPtr params,
                                 const MachineSpeed& speed)
    : CompiledProgram(std::move(params), speed, UnitsOf(decoder)), decoder_(std::move(decoder)) {}

Result<std::shared_ptr<const CompiledDecoder>> CompiledDecoder::Create(
    model::Decoder decoder, ckks::ParametersPtr params, const MachineSpeed& speed,
    const CircuitKeys& circuits) {
  if (decoder.blocks.empty())
    return MakeError(ErrorCode::kInvalidArgument, "{}: a program of 0 blocks", decoder.name);
  for (size_t i = 0; i < decoder.blocks.size(); ++i) {
    const model::Block& block = decoder.blocks[i];
    PV_RETURN_IF_ERROR(model::ValidateBlock(block, fmt::format("block {}", i)));
    if (block.prefix() != decoder.blocks.front().prefix())
      return MakeError(ErrorCode::kMismatch, "block {}: a prefix of {} tokens, block 0 has {}", i,
                       block.prefix(), decoder.blocks.front().prefix());
  }
  std::shared_ptr<CompiledDecoder> result(
      new CompiledDecoder(std::move(decoder), std::move(params), speed));
  const model::Decoder& kept = result->decoder_;
  PV_ASSIGN_OR_RETURN(result->layout_, BlockLayout::Create(kept.blocks.front().shape,
                                                           kept.context + result->prefix(),
                                                           result->params()->log_slots()));
  PV_RETURN_IF_ERROR(result->Plan(circuits));
  return std::shared_ptr<const CompiledDecoder>(std::move(result));
}

int CompiledDecoder::state_count() const {
  return static_cast<int>(decoder_.blocks.size()) * layout_.chunks;
}

Result<Graph> CompiledDecoder::Lower(int position) const {
  if (position < 0 || position >= context()) {
    return MakeError(ErrorCode::kOutOfRange, "position = {} outside the context of {} tokens",
                     position, context());
  }
  GraphBuilder builder(params()->log_slots());
  builder.Enter(-1, Component::kInput, "");
  NodeId x = builder.Input("token", Log2(layout_.width));
  builder.SetMagnitude(x, 1);
  for (int i = 0; i < static_cast<int>(decoder_.blocks.size()); ++i) {
    const size_t at = static_cast<size_t>(i);
    x = LowerBlock(builder,
                   {decoder_.blocks[at], layout_, i, position + prefix(), units().LayerInput(i),
                    units().middle[at], units().output[at]},
                   x);
  }
  builder.graph().output = x;
  return std::move(builder.graph());
}

std::string CompiledDecoder::Description() const {
  return fmt::format("{}: {} blocks, {} keys behind {}", decoder_.name, decoder_.blocks.size(),
                     context(), prefix());
}

}  // namespace polyveil::compile
