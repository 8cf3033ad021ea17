// polyveil eval: perplexity and task scores of a released model, or of our own bundle in any of its
// forms.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "eval/evaluation.h"
#include "model/formats/checkpoint.h"
#include "polyveil/commands.h"
#include "polyveil/eval_form.h"
#include "polyveil/eval_journal.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct EvalArguments {
  std::string model, data, text, state, json;
  FormOptions form;
  std::vector<std::string> tasks;
  int shots = 0, window = 1024, stride = 0;
  std::size_t limit = 0, threads = 0;
};

// What a score depends on: a journal with other settings cannot be continued. The limit is none of
// them.
json Settings(const EvalArguments& a) {
  json settings = {{"model", a.model},  {"evaluation", a.form.evaluation},
                   {"data", a.data},    {"text", a.text},
                   {"shots", a.shots},  {"window", a.window},
                   {"stride", a.stride}};
  const bool simulated = a.form.evaluation == "simulated";
  if (simulated || a.form.evaluation == "encrypted") settings["parameters"] = a.form.parameters;
  if (simulated) settings["seed"] = a.form.seed;
  return settings;
}

Result<Form> LoadForm(const EvalArguments& arguments) {
  if (fs::exists(arguments.model + "/model.json")) {
    PV_ASSIGN_OR_RETURN(auto bundle, model::LoadLanguageModel(arguments.model));
    return MakeForm(std::make_shared<const model::LanguageModelBundle>(std::move(bundle)),
                    arguments.form);
  }
  if (arguments.form.evaluation != "polynomial")
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: --evaluation {} is for bundles; a converted model is scored in its own "
                     "form, and 'polyveil simulate' and 'polyveil generate --check' run it",
                     arguments.model, arguments.form.evaluation);
  PV_ASSIGN_OR_RETURN(auto checkpoint, model::LoadCheckpoint(arguments.model));
  PV_ASSIGN_OR_RETURN(auto scorer, model::MakeScorer(std::move(checkpoint)));
  return Form{std::move(scorer)};
}

Result<std::string> ReadText(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return std::string(file->text());
}

// A number of a journal, where null stands for what is none.
double Number(const json& entry, const char* key) {
  return entry.at(key).is_number() ? entry.at(key).get<double>() : std::nan("");
}

std::size_t CountTokens(std::span<const model::ScoreRequest> requests) {
  std::size_t count = 0;
  for (const auto& request : requests)
    count +=
        request.continuation.size() + (&request == requests.data() ? request.context.size() : 0);
  return count;
}

// One item of work: requests that belong together, and where their result goes.
struct Item {
  std::size_t index;
  std::vector<model::ScoreRequest> requests;
};

std::vector<model::ScoreRequest> InGroup(std::vector<model::ScoreRequest> requests,
                                         std::size_t group) {
  for (model::ScoreRequest& request : requests) request.group = group;
  return requests;
}

// Tells what a slow form is about to cost.
template <typename Make>
void Announce(const Form& form, const std::string& name, std::size_t count,
              const EvalJournal& journal, Make make) {
  if (form.seconds_per_token == 0) return;
  std::size_t steps = 0, left = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (journal.Find(name, i)) continue;
    steps += model::CountSteps(InGroup(make(i), i));
    ++left;
  }
  std::fprintf(stderr, "%s: %zu examples to score, %zu tokens, about %s\n", name.c_str(), left,
               steps, FormatSeconds(form.seconds_per_token * static_cast<double>(steps)).c_str());
}

// Runs make(index) for every index of [0, count) that the journal lacks, in batches, and gives the
// scores to keep(index, scores), whose entry is appended.
template <typename Make, typename Keep>
Status RunItems(const Form& form, const std::string& name, std::size_t count, EvalJournal& journal,
                Make make, Keep keep) {
  Announce(form, name, count, journal, make);
  ProgressBar bar(name, 0);
  std::vector<Item> batch;
  std::vector<model::ScoreRequest> requests;
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!journal.Find(name, i)) {
      batch.push_back({i, InGroup(make(i), i)});
      tokens += CountTokens(batch.back().requests);
      requests.insert(requests.end(), batch.back().requests.begin(), batch.back().requests.end());
    }
    if (requests.empty() || (tokens < form.scorer->batch_tokens() && i + 1 < count)) continue;
    PV_ASSIGN_OR_RETURN(const auto scores, form.scorer->Score(requests));
    std::size_t at = 0;
    for (const Item& item : batch) {
      const auto part = std::span(scores).subspan(at, item.requests.size());
      PV_RETURN_IF_ERROR(journal.Append(name, item.index, keep(item, part)));
      at += item.requests.size();
    }
    batch.clear();
    requests.clear();
    tokens = 0;
    bar.Update(static_cast<double>(i + 1) / static_cast<double>(count),
               fmt::format("{} of {}", i + 1, count));
  }
  return {};
}

// The first index of a run without a number; null for none.
json FirstOf(std::ptrdiff_t index, std::size_t count) {
  return static_cast<std::size_t>(index) < count ? json(index) : json();
}

Result<json> RunTask(const Form& form, const EvalArguments& arguments, const std::string& name,
                     EvalJournal& journal) {
  PV_ASSIGN_OR_RETURN(const std::string text,
                      ReadText(arguments.data + "/" + model::TaskFile(name)));
  PV_ASSIGN_OR_RETURN(model::Task task, model::ParseTask(name, text, arguments.shots));
  if (arguments.limit > 0 && task.examples.size() > arguments.limit)
    task.examples.resize(arguments.limit);
  PV_RETURN_IF_ERROR(RunItems(
      form, name, task.examples.size(), journal,
      [&](std::size_t i) { return model::MakeRequests(*form.scorer, task.examples[i]); },
      [&](const Item& item, std::span<const model::TextScore> scores) -> json {
        const auto result = model::Judge(task.examples[item.index], scores);
        json log_probabilities = json::array();
        for (const model::TextScore& score : scores)
          log_probabilities.push_back(score.log_probability);
        return {{"log_probabilities", log_probabilities},
                {"right", result.right},
                {"right_normalized", result.right_normalized},
                {"gold_log_probability", result.gold_log_probability},
                {"finite", result.finite}};
      }));
  std::vector<model::ExampleResult> results;
  for (std::size_t i = 0; i < task.examples.size(); ++i) {
    const json& entry = *journal.Find(name, i);
    results.push_back({entry.value("right", false), entry.value("right_normalized", false),
                       Number(entry, "gold_log_probability"), entry.value("finite", true)});
  }
  const model::TaskSummary s = model::Summarize(results);
  const auto lost = std::find_if(results.begin(), results.end(),
                                 [](const model::ExampleResult& r) { return !r.finite; });
  return json{{"task", name},
              {"shots", arguments.shots},
              {"examples", s.examples},
              {"accuracy", s.accuracy},
              {"accuracy_error", s.accuracy_error},
              {"normalized_accuracy", s.normalized_accuracy},
              {"normalized_accuracy_error", s.normalized_accuracy_error},
              {"gold_perplexity", s.gold_perplexity},
              {"not_finite", s.not_finite},
              {"first_not_finite", FirstOf(lost - results.begin(), results.size())}};
}

Result<json> RunPerplexity(const Form& form, const EvalArguments& arguments, EvalJournal& journal) {
  const model::TextScorer& scorer = *form.scorer;
  PV_ASSIGN_OR_RETURN(const std::string text, ReadText(arguments.text));
  const std::vector<model::TokenId> tokens = scorer.Encode(text);
  std::vector<model::TokenId> beginning;
  if (scorer.AlwaysBegins()) beginning = scorer.Beginning();
  const int window = std::min(arguments.window, scorer.context());
  const int room = window - static_cast<int>(beginning.size());
  const int stride = arguments.stride > 0 ? std::min(arguments.stride, room) : room;
  PV_ASSIGN_OR_RETURN(auto windows, model::MakeWindows(tokens, window, stride, beginning));
  if (arguments.limit > 0 && windows.size() > arguments.limit) windows.resize(arguments.limit);
  PV_RETURN_IF_ERROR(RunItems(
      form, "text", windows.size(), journal,
      [&](std::size_t i) { return std::vector<model::ScoreRequest>{windows[i]}; },
      [&](const Item&, std::span<const model::TextScore> scores) -> json {
        return {{"log_probability", scores[0].log_probability}};
      }));
  double sum = 0;
  std::size_t scored = 0, lost = 0, first_lost = windows.size();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const double value = Number(*journal.Find("text", i), "log_probability");
    if (!std::isfinite(value) && lost++ == 0) first_lost = i;
    sum += value;
    scored += windows[i].continuation.size();
  }
  return json{
      {"task", "text"},
      {"file", arguments.text},
      {"bytes", text.size()},
      {"tokens", tokens.size()},
      {"window", window},
      {"stride", stride},
      {"windows", windows.size()},
      {"scored_tokens", scored},
      {"not_finite", lost},
      {"first_not_finite", FirstOf(static_cast<std::ptrdiff_t>(first_lost), windows.size())},
      {"log_probability", sum},
      {"perplexity", std::exp(-sum / static_cast<double>(scored))}};
}

// "blimp" stands for every set in the folder.
Result<std::vector<std::string>> ExpandTasks(const EvalArguments& arguments) {
  std::vector<std::string> names;
  for (const std::string& task : arguments.tasks) {
    if (task != "blimp") {
      names.push_back(task);
      continue;
    }
    std::error_code error;
    std::vector<std::string> sets;
    for (const auto& entry : fs::directory_iterator(arguments.data + "/blimp", error))
      if (entry.path().extension() == ".jsonl")
        sets.push_back("blimp/" + entry.path().stem().string());
    if (sets.empty())
      return MakeError(ErrorCode::kNotFound, "no *.jsonl in {}/blimp", arguments.data);
    std::sort(sets.begin(), sets.end());
    names.insert(names.end(), sets.begin(), sets.end());
  }
  return names;
}

void Print(const json& result) {
  if (result.contains("perplexity")) {
    std::printf("%-28s perplexity %.3f over %s tokens (windows of %s, stride %s)\n", "text",
                result["perplexity"].get<double>(), result["scored_tokens"].dump().c_str(),
                result["window"].dump().c_str(), result["stride"].dump().c_str());
    return;
  }
  std::string lost;  // a polynomial far outside its interval has no number to show
  if (result["not_finite"] > 0) lost = ", " + result["not_finite"].dump() + " without a number";
  std::printf("%-28s accuracy %.4f +- %.4f  normalised %.4f +- %.4f  (%s examples, %s shots%s)\n",
              result["task"].get<std::string>().c_str(), result["accuracy"].get<double>(),
              result["accuracy_error"].get<double>(), result["normalized_accuracy"].get<double>(),
              result["normalized_accuracy_error"].get<double>(), result["examples"].dump().c_str(),
              result["shots"].dump().c_str(), lost.c_str());
}

// The mean over BLiMP's sets, which are of equal size.
void AddBlimpMean(json& results) {
  double sum = 0;
  int sets = 0;
  for (const json& result : results)
    if (result["task"].get<std::string>().starts_with("blimp/")) {
      sum += result["accuracy"].get<double>();
      ++sets;
    }
  if (sets == 0) return;
  std::printf("%-28s accuracy %.4f, mean of %d sets\n", "blimp", sum / sets, sets);
  results.push_back({{"task", "blimp"}, {"sets", sets}, {"accuracy", sum / sets}});
}

// Scores without a number are a failure of the run, after everything has been written.
Status CheckNumbers(const json& results) {
  std::string lost;
  for (const json& result : results) {
    if (result.value("not_finite", 0) == 0) continue;
    const bool text = result["task"] == "text";
    lost += fmt::format("{}{}: {} of {} {} without a number, the first is number {}",
                        lost.empty() ? "" : "; ", result["task"].get<std::string>(),
                        result["not_finite"].dump(), result[text ? "windows" : "examples"].dump(),
                        text ? "windows" : "examples", result["first_not_finite"].dump());
  }
  return lost.empty() ? Status() : MakeError(ErrorCode::kOutOfRange, "{}", lost);
}

Status RunEval(const EvalArguments& arguments) {
  if (arguments.text.empty() && arguments.tasks.empty())
    return MakeError(ErrorCode::kInvalidArgument, "nothing to evaluate: name --text or --tasks");
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(EvalJournal journal, EvalJournal::Open(arguments.state, Settings(arguments)));
  PV_ASSIGN_OR_RETURN(const Form form, LoadForm(arguments));
  PV_ASSIGN_OR_RETURN(const auto names, ExpandTasks(arguments));
  json results = json::array();
  if (!arguments.text.empty()) {
    PV_ASSIGN_OR_RETURN(const json result, RunPerplexity(form, arguments, journal));
    Print(result);
    results.push_back(result);
  }
  for (const std::string& name : names) {
    PV_ASSIGN_OR_RETURN(const json result, RunTask(form, arguments, name, journal));
    Print(result);
    results.push_back(result);
  }
  AddBlimpMean(results);
  if (!arguments.json.empty()) {
    json settings = Settings(arguments);
    settings["limit"] = arguments.limit;
    PV_RETURN_IF_ERROR(WriteFile(
        arguments.json, json{{"settings", settings}, {"results", results}}.dump(1) + "\n"));
  }
  return CheckNumbers(results);
}

}  // namespace

Command DescribeEval(Options& app) {
  auto arguments = std::make_shared<EvalArguments>();
  app.description(
      "Scores a model: a released one (folder or *.gguf, see polyveil import) in float32, or a "
      "bundle\n"
      "of ours (folder with model.json) in float64, on the noise simulator or on ciphertexts.\n"
      "Tasks: lambada, piqa, winogrande, arc-easy, arc-challenge, blimp, blimp/SET.");
  AddModel(app, arguments->model, "a bundle, a folder or *.gguf")->required();
  app.add_option("--text", arguments->text, "perplexity of this text file");
  AddNumber(app, "--window", arguments->window, {2, 1 << 20},
            "tokens of a window (at most the model's context)");
  AddNumber(app, "--stride", arguments->stride, {0, 1 << 20},
            "tokens between windows; 0: a window");
  auto* data = app.add_option("--data", arguments->data, "folder of the tasks' files");
  app.add_option("--tasks", arguments->tasks, "tasks to run")->delimiter(',')->needs(data);
  AddNumber(app, "--shots", arguments->shots, {0, 64},
            "answered examples before each, the file's first ones");
  AddNumber(app, "--limit", arguments->limit, {0, 1'000'000'000},
            "examples of a task, windows of a text; 0: all");
  app.add_option(
         "--evaluation", arguments->form.evaluation,
         "of a bundle: its polynomials or the exact functions in float64, its program with\n"
         "the parameters' noise, or on ciphertexts (seconds a token: a sample, see --limit)")
      ->capture_default_str()
      ->one_of({"polynomial", "exact", "simulated", "encrypted"});
  app.add_option("--parameters", arguments->form.parameters,
                 "parameter set, simulated and encrypted")
      ->capture_default_str();
  AddSeed(app, arguments->form.seed, "of the noise, simulated");
  app.add_flag("--insecure-test", arguments->form.insecure, "allow parameters for tests");
  AddThreads(app, arguments->threads);
  app.add_option("--state", arguments->state, "keep finished examples here, continue from them");
  AddOutputFile(app, "--json", arguments->json, "also write the results to this file");
  return [arguments] { return RunEval(*arguments); };
}

}  // namespace polyveil::tools
