#include "model/client/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
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
  if (options.top_k < 0)
    return MakeError(ErrorCode::kInvalidArgument, "top-k {} is not >= 0", options.top_k);
  if (!(options.repetition_penalty > 0 && options.repetition_penalty <= 100))
    return MakeError(ErrorCode::kInvalidArgument, "repetition penalty {} is not in (0, 100]",
                     options.repetition_penalty);
  return {};
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  PV_CHECK(ValidateSampling(options).ok(), "temperature {}, top-p {}", options.temperature,
           options.top_p);
}

TokenId Sampler::Pick(std::span<const double> logits, std::span<const TokenId> text) {
  PV_CHECK(!logits.empty(), "no logits");
  if (options_.repetition_penalty == 1 || text.empty()) return Draw(logits);
  std::vector<double> penalised(logits.begin(), logits.end());
  for (const TokenId token : std::set<TokenId>(text.begin(), text.end())) {
    if (token < 0 || static_cast<std::size_t>(token) >= penalised.size()) continue;
    double& logit = penalised[static_cast<std::size_t>(token)];
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  }
  return Draw(penalised);
}

TokenId Sampler::Draw(std::span<const double> logits) {
  const TokenId best = Greedy(logits);
  if (options_.temperature == 0) return best;
  const auto all = static_cast<std::ptrdiff_t>(logits.size());
  const std::ptrdiff_t most =
      options_.top_k == 0 ? all : std::min<std::ptrdiff_t>(options_.top_k, all);
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  // Ties go to the smaller id: equal order on every machine.
  std::partial_sort(order.begin(), order.begin() + most, order.end(), [&](TokenId x, TokenId y) {
    const double a = logits[static_cast<std::size_t>(x)], b = logits[static_cast<std::size_t>(y)];
    return a != b ? a > b : x < y;
  });
  order.resize(static_cast<std::size_t>(most));
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
