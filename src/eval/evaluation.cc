#include "eval/evaluation.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/client/text/unicode.h"

namespace polyveil::model {
namespace {

double Characters(std::string_view text) {
  double count = 0;
  ForEachCharacter(text, [&](char32_t, std::string_view) { ++count; });
  return std::max(1.0, count);
}

// Cuts the middle out of a request that is longer than the model reads: what it begins every text
// with stays, or the model would see a text such as it has never seen.
void Shorten(std::size_t room, std::size_t beginning, ScoreRequest& request) {
  const std::size_t kept = std::max<std::size_t>(1, beginning);
  if (const std::size_t most = room + 1 - std::min(kept, room); request.continuation.size() > most)
    request.continuation.resize(most);
  const std::size_t length = std::max(kept, room + 1 - request.continuation.size());
  if (request.context.size() <= length) return;
  const auto begin = request.context.begin() + static_cast<long>(beginning);
  request.context.erase(begin, begin + static_cast<long>(request.context.size() - length));
}

ScoreRequest MakeRequest(const TextScorer& scorer, const Choice& choice) {
  ScoreRequest request;
  const bool begins = choice.context.empty() || scorer.AlwaysBegins();
  if (begins) request.context = scorer.Beginning();
  const std::size_t beginning = request.context.size();
  const std::vector<TokenId> before = scorer.Encode(choice.context);
  const std::vector<TokenId> whole = scorer.Encode(choice.context + choice.continuation);
  // At least one token is scored; none at all is the scorer's error.
  const std::size_t border = std::min(before.size(), whole.empty() ? 0 : whole.size() - 1);
  request.context.insert(request.context.end(), whole.begin(),
                         whole.begin() + static_cast<long>(border));
  request.continuation.assign(whole.begin() + static_cast<long>(border), whole.end());
  Shorten(static_cast<std::size_t>(scorer.context()), beginning, request);
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
  for (const TextScore& score : scores)
    result.finite = result.finite && std::isfinite(score.log_probability);
  if (!std::isfinite(result.gold_log_probability)) return result;
  if (scores.size() == 1) {
    result.right = result.right_normalized = scores[0].greedy;
    return result;
  }
  const auto normalized = [&](std::size_t i) {
    const std::string_view text = example.choices[i].continuation;
    return scores[i].log_probability / Characters(text.starts_with(' ') ? text.substr(1) : text);
  };
  // Of equal choices the first counts; one without a number never does.
  result.right = result.right_normalized = true;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (i == gold || !std::isfinite(scores[i].log_probability)) continue;
    const auto beaten = [&](double gold_value, double value) {
      return value > gold_value || (value == gold_value && i < gold);
    };
    if (beaten(result.gold_log_probability, scores[i].log_probability)) result.right = false;
    if (beaten(normalized(gold), normalized(i))) result.right_normalized = false;
  }
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
    s.not_finite += !r.finite;
  }
  s.accuracy = right / count;  // at most 1: the error has no root of a negative number
  s.normalized_accuracy = right_normalized / count;
  s.accuracy_error = StandardError(s.accuracy, count);
  s.normalized_accuracy_error = StandardError(s.normalized_accuracy, count);
  s.gold_perplexity = std::exp(-log_sum / count);
  return s;
}

Result<std::vector<ScoreRequest>> MakeWindows(std::span<const TokenId> tokens, int window,
                                              int stride, std::span<const TokenId> beginning) {
  const int room = window - static_cast<int>(beginning.size());
  if (room < 2 || stride < 1 || stride > room)
    return MakeError(ErrorCode::kOutOfRange,
                     "windows of {} tokens, {} of them the beginning, every {}: need 1 <= {} <= {}",
                     window, beginning.size(), stride, stride, room);
  const auto width = static_cast<std::size_t>(room), step = static_cast<std::size_t>(stride);
  const std::size_t unscored = beginning.empty() ? 1 : 0;  // a first token has nothing before it
  if (tokens.size() <= unscored)
    return MakeError(ErrorCode::kOutOfRange, "a text of {} tokens: none to score, {} are needed",
                     tokens.size(), unscored + 1);
  std::vector<ScoreRequest> requests;
  for (std::size_t begin = 0; begin < tokens.size(); begin += step) {
    const std::size_t end = std::min(tokens.size(), begin + width);
    // What the window before has scored is context here.
    const std::size_t scored = begin + std::max(unscored, begin == 0 ? 0 : width - step);
    if (scored >= end) break;
    const auto at = [&](std::size_t i) { return tokens.begin() + static_cast<long>(i); };
    ScoreRequest request{{beginning.begin(), beginning.end()}, {at(scored), at(end)}};
    request.context.insert(request.context.end(), at(begin), at(scored));
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace polyveil::model
