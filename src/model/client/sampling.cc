#include "model/client/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace polyveil::model {
namespace {

TokenId Greedy(std::span<const double> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Status ValidateSampling(const SamplingOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0)
    return MakeError(ErrorCode::kInvalidArgument, "temperature {} is not >= 0",
                     options.temperature);
  if (!(options.top_p > 0 && options.top_p <= 1))
    return MakeError(ErrorCode::kInvalidArgument, "top-p {} is not in (0, 1]", options.top_p);
  return {};
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  PV_CHECK(ValidateSampling(options).ok(), "temperature {}, top-p {}", options.temperature,
           options.top_p);
}

TokenId Sampler::Pick(std::span<const double> logits) {
  PV_CHECK(!logits.empty(), "no logits");
  const TokenId best = Greedy(logits);
  if (options_.temperature == 0) return best;
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId x, TokenId y) {
    return logits[static_cast<std::size_t>(x)] > logits[static_cast<std::size_t>(y)];
  });
  const double top = logits[static_cast<std::size_t>(best)];
  std::vector<double> weights;
  double total = 0;
  for (const TokenId token : order) {
    weights.push_back(
        std::exp((logits[static_cast<std::size_t>(token)] - top) / options_.temperature));
    total += weights.back();
  }
  double nucleus = 0;
  std::size_t kept = 0;
  while (kept < weights.size() && (kept == 0 || nucleus < options_.top_p * total))
    nucleus += weights[kept++];
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * nucleus;
  for (std::size_t i = 0; i < kept; ++i)
    if ((left -= weights[i]) < 0) return order[i];
  return order[kept - 1];
}

}  // namespace polyveil::model
