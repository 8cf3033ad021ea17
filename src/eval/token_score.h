// What the scorers share; internal to this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "eval/text_scorer.h"

namespace polyveil::model {

// Keeps every thread busy between two journal entries.
inline constexpr std::size_t kBatchTokens = 2048;

inline Status CheckRequest(const ScoreRequest& request, int context) {
  if (request.context.empty() || request.continuation.empty())
    return MakeError(ErrorCode::kOutOfRange, "a request of {} tokens of context and {} to score",
                     request.context.size(), request.continuation.size());
  const std::size_t read = request.context.size() + request.continuation.size() - 1;
  if (read > static_cast<std::size_t>(context))
    return MakeError(ErrorCode::kOutOfRange, "a request reads {} tokens > context {}", read,
                     context);
  return {};
}

// log softmax(logits)[target], and whether target is the largest. One logit that is no number makes
// the score none.
template <typename T>
void AddToken(std::span<const T> logits, TokenId target, TextScore& score) {
  if (!std::all_of(logits.begin(), logits.end(), [](T logit) { return std::isfinite(logit); })) {
    score.log_probability = std::nan("");
    score.greedy = false;
    return;
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const T logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double at = logits[static_cast<std::size_t>(target)];
  score.log_probability += at - largest - std::log(sum);
  score.greedy = score.greedy && at == largest;
}

}  // namespace polyveil::model
