#include "model/public_context.h"

#include <algorithm>
#include <cmath>

#include "model/block_reference.h"

namespace polyveil::model {
namespace {

Status CheckFinite(const BlockReference& block, const std::vector<double>& residual, int token) {
  const bool finite = std::ranges::all_of(residual, [](double x) { return std::isfinite(x); });
  if (finite && block.first_not_finite().empty()) return {};
  return MakeError(ErrorCode::kUntrustedResult,
                   "public context: a value left its interval at token {}: it is not finite ({})",
                   token + 1,
                   block.first_not_finite().empty() ? "the residual" : block.first_not_finite());
}

void CountOutOfRange(const BlockReference& block, double& worst, PublicContext& context) {
  for (const auto& [site, count] : block.escapes()) {
    context.out_of_range += count.escapes;
    if (count.escapes == 0 || count.worst_ratio <= worst) continue;
    worst = count.worst_ratio;
    context.worst_site = site;
  }
}

}  // namespace

std::size_t PublicContext::bytes() const {
  std::size_t values = 0;
  for (const KeyValues& block : blocks) values += block.keys.size() + block.values.size();
  return values * sizeof(double);
}

std::size_t PublicContextBytes(const Decoder& decoder, int tokens) {
  std::size_t bytes = 0;
  for (const Block& block : decoder.blocks)
    bytes += 2 * sizeof(double) * static_cast<std::size_t>(block.shape.kv_width()) *
             static_cast<std::size_t>(block.prefix() + tokens);
  return bytes;
}

Status CheckPublicTokens(int tokens, int context) {
  if (tokens >= 0 && tokens < context) return {};
  return MakeError(
      ErrorCode::kOutOfRange,
      "a public context of {} tokens, the model's context of {} has room for {} before "
      "an encrypted one",
      tokens, context, context - 1);
}

Result<std::shared_ptr<const PublicContext>> ComputePublicContext(
    const Decoder& decoder, std::vector<std::vector<double>> embeddings,
    const std::atomic<bool>* cancel) {
  auto context = std::make_shared<PublicContext>();
  context->tokens = static_cast<int>(embeddings.size());
  PV_RETURN_IF_ERROR(CheckPublicTokens(context->tokens, decoder.context));
  double worst = 1;
  for (const Block& block : decoder.blocks) {
    BlockReference reference(block, Evaluation::kPolynomial,
                             fmt::format("layer {} / ", context->blocks.size()));
    for (std::size_t token = 0; token < embeddings.size(); ++token) {
      if (cancel != nullptr && cancel->load())
        return MakeError(ErrorCode::kCancelled, "public context: cancelled at token {}", token + 1);
      PV_ASSIGN_OR_RETURN(embeddings[token], reference.Step(embeddings[token]));
      PV_RETURN_IF_ERROR(CheckFinite(reference, embeddings[token], static_cast<int>(token)));
    }
    CountOutOfRange(reference, worst, *context);
    context->blocks.push_back({reference.keys(), reference.values()});
  }
  return std::shared_ptr<const PublicContext>(std::move(context));
}

}  // namespace polyveil::model
