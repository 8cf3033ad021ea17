#include "model/decoder_reference.h"

namespace polyveil::model {
namespace {

constexpr double kKeptBytes = 4e9;

bool FitsInMemory(const Decoder& decoder) {
  double bytes = 0;
  for (const Block& block : decoder.blocks)
    bytes += static_cast<double>(sizeof(double)) * static_cast<double>(block.shape.parameters());
  return bytes <= kKeptBytes;
}

}  // namespace

DecoderReference::DecoderReference(const Decoder& decoder, Evaluation evaluation)
    : context_(decoder.context), keeps_weights_(FitsInMemory(decoder)) {
  for (const Block& block : decoder.blocks)
    blocks_.emplace_back(block, evaluation, fmt::format("layer {} / ", blocks_.size()));
}

void DecoderReference::Reset() {
  position_ = 0;
  for (BlockReference& block : blocks_) block.Reset();
}

Result<std::vector<double>> DecoderReference::Step(std::span<const double> embedding) {
  if (position_ >= context_)
    return MakeError(ErrorCode::kOutOfRange, "{} tokens so far, context {}", position_, context_);
  std::vector<double> x(embedding.begin(), embedding.end());
  for (BlockReference& block : blocks_) {
    PV_ASSIGN_OR_RETURN(x, block.Step(x));
    if (!keeps_weights_) block.ReleaseWeights();
    if (first_not_finite_.empty() && !block.first_not_finite().empty())
      first_not_finite_ = fmt::format("{} at position {}", block.first_not_finite(), position_);
  }
  ++position_;
  return x;
}

Result<std::vector<std::vector<double>>> DecoderReference::Read(
    std::span<const std::vector<double>> embeddings) {
  Reset();
  if (embeddings.size() > static_cast<std::size_t>(context_))
    return MakeError(ErrorCode::kOutOfRange, "a text of {} tokens, context {}", embeddings.size(),
                     context_);
  std::vector<std::vector<double>> text(embeddings.begin(), embeddings.end());
  for (BlockReference& block : blocks_) {
    PV_ASSIGN_OR_RETURN(text, block.Read(text));
    if (!keeps_weights_) block.ReleaseWeights();
    if (first_not_finite_.empty()) first_not_finite_ = block.first_not_finite();
  }
  position_ = static_cast<int>(text.size());
  return text;
}

void DecoderReference::set_observer(const Observer& observer) {
  for (BlockReference& block : blocks_) block.set_observer(observer);
}

std::map<std::string, EscapeCount> DecoderReference::escapes() const {
  std::map<std::string, EscapeCount> all;
  for (const BlockReference& block : blocks_)
    all.insert(block.escapes().begin(), block.escapes().end());
  return all;
}

}  // namespace polyveil::model
