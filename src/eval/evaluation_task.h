// Tasks with known answers, from files of JSON lines. docs/formats/evaluation-data.md has the
// forms.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil::model {

// The continuation is scored given the context.
struct Choice {
  std::string context, continuation;
};

struct Example {
  std::vector<Choice>
      choices;  // one: right when greedy; more: right when the gold one is likeliest
  int gold = 0;
};

struct Task {
  std::string name;
  std::vector<Example> examples;
};

// name: "lambada", "piqa", "winogrande", "arc-easy", "arc-challenge" or "blimp/<set>".
// text: lines {"context", "continuation"}, {"query", "choices", "gold"}, {"context_options",
// "continuation", "gold"} or {"good", "bad"}. shots: so many examples of the file's start stand,
// answered, before every other one, and are not scored. Errors: kCorrupt, kOutOfRange; the line
// named.
Result<Task> ParseTask(std::string name, std::string_view text, int shots);

// The file of a task inside a folder like shared data: "piqa" -> "piqa.jsonl".
std::string TaskFile(std::string_view name);

}  // namespace polyveil::model
