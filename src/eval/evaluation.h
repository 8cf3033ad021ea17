// Scores of a task or a text, an example at a time, so that a run can be stopped and resumed.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "eval/evaluation_task.h"
#include "eval/text_scorer.h"

namespace polyveil::model {

// What one example gave.
struct ExampleResult {
  bool right = false;             // by log-probability (one choice: greedy)
  bool right_normalized = false;  // by log-probability per character of the continuation
  double gold_log_probability = 0;
  bool finite = true;  // every choice has a score; one without counts as the least likely
};

// Requests of one example. The model's Beginning stands where the context is empty, and before it
// where the model wants that; contexts are shortened behind it, from the left, to fit the model.
std::vector<ScoreRequest> MakeRequests(const TextScorer& scorer, const Example& example);
ExampleResult Judge(const Example& example, std::span<const TextScore> scores);

struct TaskSummary {
  std::uint64_t examples = 0;
  double accuracy = 0, accuracy_error = 0;  // standard error of the mean
  double normalized_accuracy = 0, normalized_accuracy_error = 0;
  double gold_perplexity = 0;  // exp of the mean negative log-probability of the gold continuation
  std::uint64_t not_finite = 0;  // examples in which some choice has no finite score
};
TaskSummary Summarize(std::span<const ExampleResult> results);

// Cuts a text into requests: windows of `window` tokens, the next one `stride` further, each token
// scored once in the first window that holds it with a token before it. `beginning` stands before
// the tokens of every window and is part of its size: then every token is scored, otherwise all but
// the first of the text. Requires window <= context + 1, 2 <= window - beginning, 1 <= stride <
// that, or stride = that (then each window's first token has only `beginning` before it, and is not
// scored without one). Errors: kOutOfRange, for a text without a token to score too.
Result<std::vector<ScoreRequest>> MakeWindows(std::span<const TokenId> tokens, int window,
                                              int stride, std::span<const TokenId> beginning = {});

}  // namespace polyveil::model
