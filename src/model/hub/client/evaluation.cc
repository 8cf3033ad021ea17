#include "model/hub/client/evaluation.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/hub/client/unicode.h"

namespace polyveil::model::hub {
namespace {

double Characters(std::string_view text) {
  double count = 0;
  ForEachCharacter(text, [&](char32_t, std::string_view) { ++count; });
  return std::max(1.0, count);
}

ScoreRequest MakeRequest(const TextScorer& scorer, const Choice& choice) {
  ScoreRequest request;
  if (choice.context.empty() || scorer.AlwaysBegins()) request.context = scorer.Beginning();
  const std::vector<TokenId> before = scorer.Encode(choice.context);
  const std::vector<TokenId> whole = scorer.Encode(choice.context + choice.continuation);
  // At least one token is scored; none at all is the scorer's error.
  const std::size_t border = std::min(before.size(), whole.empty() ? 0 : whole.size() - 1);
  request.context.insert(request.context.end(), whole.begin(),
                         whole.begin() + static_cast<long>(border));
  request.continuation.assign(whole.begin() + static_cast<long>(border), whole.end());
  const auto room = static_cast<std::size_t>(scorer.context());
  if (request.continuation.size() > room) request.continuation.resize(room);
  const std::size_t keep = std::max<std::size_t>(1, room + 1 - request.continuation.size());
  if (request.context.size() > keep)
    request.context.erase(request.context.begin(), request.context.end() - static_cast<long>(keep));
  return request;
}

// sqrt(p (1 - p) / (n - 1)): the standard error of a mean of zeros and ones.
double StandardError(double mean, double count) {
  return count > 1 ? std::sqrt(mean * (1 - mean) / (count - 1)) : 0;
}

}  // namespace

std::vector<ScoreRequest> MakeRequests(const TextScorer& scorer, const Example& example) {
  std::vector<ScoreRequest> requests;
  for (const Choice& choice : example.choices) requests.push_back(MakeRequest(scorer, choice));
  return requests;
}

ExampleResult Judge(const Example& example, std::span<const TextScore> scores) {
  PV_CHECK(scores.size() == example.choices.size(), "{} scores, {} choices", scores.size(),
           example.choices.size());
  const auto gold = static_cast<std::size_t>(example.gold);
  ExampleResult result;
  result.gold_log_probability = scores[gold].log_probability;
  if (scores.size() == 1) {
    result.right = result.right_normalized = scores[0].greedy;
    return result;
  }
  std::size_t best = 0, best_normalized = 0;
  std::vector<double> normalized;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::string_view text = example.choices[i].continuation;
    normalized.push_back(scores[i].log_probability /
                         Characters(text.starts_with(' ') ? text.substr(1) : text));
    if (scores[i].log_probability > scores[best].log_probability) best = i;
    if (normalized[i] > normalized[best_normalized]) best_normalized = i;
  }
  result.right = best == gold;
  result.right_normalized = best_normalized == gold;
  return result;
}

TaskSummary Summarize(std::span<const ExampleResult> results) {
  TaskSummary s;
  s.examples = results.size();
  if (results.empty()) return s;
  const auto count = static_cast<double>(results.size());
  double right = 0, right_normalized = 0, log_sum = 0;
  for (const ExampleResult& r : results) {
    right += r.right;
    right_normalized += r.right_normalized;
    log_sum += r.gold_log_probability;
  }
  s.accuracy = right / count;  // at most 1: the error has no root of a negative number
  s.normalized_accuracy = right_normalized / count;
  s.accuracy_error = StandardError(s.accuracy, count);
  s.normalized_accuracy_error = StandardError(s.normalized_accuracy, count);
  s.gold_perplexity = std::exp(-log_sum / count);
  return s;
}

Result<std::vector<ScoreRequest>> MakeWindows(std::span<const TokenId> tokens, int window,
                                              int stride) {
  if (window < 2 || stride < 1 || stride > window)
    return MakeError(ErrorCode::kOutOfRange, "windows of {} tokens every {}: need 1 <= {} <= {}",
                     window, stride, stride, window);
  const auto width = static_cast<std::size_t>(window), step = static_cast<std::size_t>(stride);
  std::vector<ScoreRequest> requests;
  for (std::size_t begin = 0; begin + 1 < tokens.size(); begin += step) {
    const std::size_t end = std::min(tokens.size(), begin + width);
    // What the window before has scored is context here.
    const std::size_t scored = begin == 0 ? 1 : begin + std::max<std::size_t>(1, width - step);
    if (scored >= end) break;
    const auto part = [&](std::size_t from, std::size_t to) {
      return std::vector<TokenId>(tokens.begin() + static_cast<long>(from),
                                  tokens.begin() + static_cast<long>(to));
    };
    requests.push_back({part(begin, scored), part(scored, end)});
  }
  return requests;
}

}  // namespace polyveil::model::hub
