#include "compile/compiled_decoder.h"

#include <utility>

#include "base/digest.h"
#include "compile/lower_block.h"
#include "model/layer_json.h"

namespace polyveil::compile {
namespace {

// What the layout is made from.
std::string Sizes(const model::BlockShape& s) {
  return fmt::format("d_model = {}, {} heads of {}, d_ff = {}", s.d_model, s.n_heads, s.d_head,
                     s.d_ff);
}

std::string DescribePrefix(const model::Block& block) {
  Hasher hasher("polyveil prefix");
  for (const auto* values : {&block.prefix_keys, &block.prefix_values})
    hasher.UpdateField(
        {reinterpret_cast<const char*>(values->data()), values->size() * sizeof(double)});
  return ToHex(hasher.Final());
}

Status CheckBlocks(const model::Decoder& decoder) {
  if (decoder.blocks.empty() || decoder.context < 1)
    return MakeError(ErrorCode::kInvalidArgument, "{}: a program of {} blocks, context {}",
                     decoder.name, decoder.blocks.size(), decoder.context);
  const model::Block& first = decoder.blocks.front();
  for (size_t i = 0; i < decoder.blocks.size(); ++i) {
    const model::Block& block = decoder.blocks[i];
    PV_RETURN_IF_ERROR(model::ValidateBlock(block, fmt::format("block {}", i)));
    if (block.prefix() != first.prefix())
      return MakeError(ErrorCode::kMismatch, "block {}: a prefix of {} tokens, block 0 has {}", i,
                       block.prefix(), first.prefix());
    if (Sizes(block.shape) != Sizes(first.shape))
      return MakeError(ErrorCode::kMismatch, "block {}: {}, block 0: {}", i, Sizes(block.shape),
                       Sizes(first.shape));
  }
  return {};
}

}  // namespace

CompiledDecoder::CompiledDecoder(std::shared_ptr<const model::Decoder> decoder,
                                 ckks::ParametersPtr params, const MachineSpeed& speed)
    : CompiledProgram(std::move(params), speed, MakeResidualUnits(*decoder)),
      decoder_(std::move(decoder)) {}

Result<std::shared_ptr<const CompiledDecoder>> CompiledDecoder::Create(
    std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
    const MachineSpeed& speed, const CircuitKeys& circuits) {
  PV_RETURN_IF_ERROR(CheckBlocks(*decoder));
  PV_ASSIGN_OR_RETURN(
      const BlockLayout layout,
      BlockLayout::Create(decoder->blocks.front().shape, decoder->context + decoder->prefix(),
                          params->log_slots()));
  std::shared_ptr<CompiledDecoder> result(
      new CompiledDecoder(std::move(decoder), std::move(params), speed));
  result->layout_ = layout;
  PV_RETURN_IF_ERROR(result->Plan(circuits));
  return std::shared_ptr<const CompiledDecoder>(std::move(result));
}

MapDiagonals CompiledDecoder::Diagonals(const LinearMap& map) const {
  return {map, decoder_->blocks[static_cast<size_t>(map.layer)], layout_};
}

int CompiledDecoder::state_count() const {
  return static_cast<int>(decoder_->blocks.size()) * layout_.chunks;
}

Result<Graph> CompiledDecoder::Lower(int position) const {
  return LowerStep(*decoder_, layout_, position);
}

// What is known of the program (its name, its certificate) is no part of it.
std::string CompiledDecoder::Description() const {
  const model::Decoder& d = *decoder_;
  std::string text = fmt::format("{} {} {} {}\n", d.digest, d.context, d.margin, d.residual_bound);
  for (const model::Block& block : d.blocks) {
    text += model::DescribeShape(block.shape) + " " + DescribePrefix(block) + "\n";
    text += model::LayerToJson(block.forms, model::LayerFields::kAll).dump() + "\n";
  }
  return text;
}

}  // namespace polyveil::compile
