#include "eval/evaluation_task.h"

#include <algorithm>

#include "model/strict_json.h"

namespace polyveil::model {
namespace {

constexpr std::size_t kMaxExamples = 1 << 20;
constexpr std::size_t kMaxChoices = 64;

std::string_view TrimEnd(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

std::vector<std::string> Strings(const JsonReader& at, const char* key) {
  std::vector<std::string> out;
  const auto* list = at.Find(key);
  if (!list) return out;
  if (!list->is_array() || list->empty() || list->size() > kMaxChoices) {
    at.Fail(key, fmt::format("is no array of 1..{}", kMaxChoices));
    return out;
  }
  for (const auto& each : *list) {
    if (!each.is_string()) {
      at.Fail(key, "holds what is no string");
      return out;
    }
    out.push_back(each.get<std::string>());
  }
  return out;
}

int Gold(const JsonReader& at, std::size_t choices) {
  const int gold = at.Int("gold");
  if (gold >= static_cast<int>(choices))
    at.Fail("gold", fmt::format("is {}, there are {} choices", gold, choices));
  return gold;
}

// Continuations begin with a space, so that tokens do not straddle the border.
Example ReadExample(const JsonReader& at) {
  Example example;
  if (at.Has("good")) {
    example.choices = {{"", at.Text("good")}, {"", at.Text("bad")}};
  } else if (at.Has("query")) {
    const std::string query(TrimEnd(at.Text("query")));
    for (const std::string& choice : Strings(at, "choices"))
      example.choices.push_back({query + "\nAnswer:", " " + choice});
    example.gold = Gold(at, example.choices.size());
  } else if (at.Has("context_options")) {
    const std::string continuation = at.Text("continuation");
    for (const std::string& context : Strings(at, "context_options"))
      example.choices.push_back({std::string(TrimEnd(context)), " " + continuation});
    example.gold = Gold(at, example.choices.size());
  } else {
    example.choices = {{std::string(TrimEnd(at.Text("context"))), " " + at.Text("continuation")}};
  }
  return example;
}

std::string Answered(const Example& example) {
  const Choice& gold = example.choices[static_cast<std::size_t>(example.gold)];
  return gold.context + gold.continuation + "\n\n";
}

}  // namespace

Result<Task> ParseTask(std::string name, std::string_view text, int shots) {
  Task task{std::move(name), {}};
  for (int line = 1; !text.empty(); ++line) {
    const auto end = text.find('\n');
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (one.empty()) continue;
    const std::string where = fmt::format("{}, line {}", task.name, line);
    PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(one, where));
    std::string error;
    Example example = ReadExample(JsonReader(json, where, error));
    if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
    task.examples.push_back(std::move(example));
    if (task.examples.size() > kMaxExamples)
      return MakeError(ErrorCode::kOutOfRange, "{}: more than {} examples", task.name,
                       kMaxExamples);
  }
  if (shots < 0 || static_cast<std::size_t>(shots) >= task.examples.size())
    return MakeError(ErrorCode::kOutOfRange, "{}: {} shots of {} examples", task.name, shots,
                     task.examples.size());
  std::string before;
  for (int i = 0; i < shots; ++i) before += Answered(task.examples[static_cast<std::size_t>(i)]);
  task.examples.erase(task.examples.begin(), task.examples.begin() + shots);
  for (Example& example : task.examples)
    for (Choice& choice : example.choices) choice.context.insert(0, before);
  return task;
}

std::string TaskFile(std::string_view name) {
  std::string file(name == "lambada" ? "lambada_openai" : name);
  if (!file.starts_with("blimp/")) std::replace(file.begin(), file.end(), '-', '_');
  return file + ".jsonl";
}

}  // namespace polyveil::model
