// polyveil simulate: greedy continuations on the slot simulator with noise, against the float64
// model and exact arithmetic.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "model/import/decoder_files.h"
#include "model/narrow.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "polyveil/run_report.h"
#include "polyveil/simulate_choice.h"
#include "runtime/compile_model.h"
#include "serve/client/simulated_text.h"

namespace polyveil::tools {

namespace {

using nlohmann::json;

struct SimulateOptions {
  std::string model, prompts, prompt_file, json, narrow_site;
  ProgramOptions program;
  int count = 200, tokens = 16, context = 0;
  std::uint64_t seed = 1;
  double narrow = 0;
  bool noiseless = false, copies = false;
  double temperature = 0;  // of a choice
  int draws = 0;
};

using Text = std::vector<model::TokenId>;
constexpr std::uint64_t kMaxPromptBytes = 16 << 20;

Result<std::string> ReadAll(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, kMaxPromptBytes));
  return std::string(bytes.begin(), bytes.end());
}

// One entry of a JSON list: a text, {"prompt": text}, or token ids.
Result<Text> ParseEntry(const json& entry, const model::ClientHalf& half, size_t index) {
  Text text = half.Beginning();
  const json& prompt = entry.is_object() && entry.contains("prompt") ? entry["prompt"] : entry;
  if (prompt.is_string()) {
    const Text tokens = half.EncodePart(prompt.get<std::string>());
    text.insert(text.end(), tokens.begin(), tokens.end());
    return text;
  }
  if (!prompt.is_array())
    return MakeError(ErrorCode::kCorrupt, "prompts[{}] is neither a text nor token ids", index);
  for (const json& id : prompt) {
    if (!id.is_number_unsigned() ||
        id.get<std::uint64_t>() >= static_cast<size_t>(half.vocabulary()))
      return MakeError(ErrorCode::kOutOfRange, "prompts[{}] holds {}, no token below {}", index,
                       id.dump(), half.vocabulary());
    text.push_back(id.get<model::TokenId>());
  }
  return text;
}

Result<std::vector<Text>> ParseList(const std::string& path, const std::string& content,
                                    const model::ClientHalf& half) {
  const json list = json::parse(content, nullptr, false);
  if (!list.is_array()) return MakeError(ErrorCode::kCorrupt, "{} is no JSON list", path);
  std::vector<Text> texts;
  for (const json& entry : list) {
    PV_ASSIGN_OR_RETURN(texts.emplace_back(), ParseEntry(entry, half, texts.size()));
  }
  return texts;
}

// A list of prompts (JSON), a file of lines, or a file that is one prompt.
Result<std::vector<Text>> ReadTexts(const SimulateOptions& options, const std::string& directory,
                                    const model::ClientHalf& half) {
  PV_RETURN_IF_ERROR(half.CheckWrites());
  const bool whole = !options.prompt_file.empty();
  std::string path = whole ? options.prompt_file : options.prompts;
  if (path.empty()) path = directory + "/prompts.txt";
  PV_ASSIGN_OR_RETURN(const std::string content, ReadAll(path));
  if (whole) {
    PV_ASSIGN_OR_RETURN(Text text, ParseEntry(json(content), half, 0));
    return std::vector<Text>{std::move(text)};
  }
  std::vector<Text> texts;
  if (path.ends_with(".json")) {
    PV_ASSIGN_OR_RETURN(texts, ParseList(path, content, half));
  } else {
    std::istringstream lines(content);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      PV_ASSIGN_OR_RETURN(texts.emplace_back(), ParseEntry(json(line), half, 0));
    }
  }
  if (texts.empty()) return MakeError(ErrorCode::kOutOfRange, "prompts: {} holds none", path);
  texts.resize(std::min(texts.size(), static_cast<size_t>(options.count)));
  return texts;
}

std::string ParametersOf(const SimulateOptions& options) {
  if (!options.program.parameters.empty()) return options.program.parameters;
  return runtime::DefaultParameters({.prompts = options.program.at_once});
}

Result<serve::SimulationSetup> Prepare(const SimulateOptions& options, const std::string& path) {
  PV_ASSIGN_OR_RETURN(ClientHalf half, LoadClientHalf(path));
  PV_ASSIGN_OR_RETURN(const auto loaded, model::LoadDecoder(path, {.context = options.context}));
  const auto decoder = std::make_shared<model::Decoder>(*loaded);
  if (options.narrow > 0)
    PV_RETURN_IF_ERROR(model::Narrow(*decoder, {options.narrow, options.narrow_site}));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(ParametersOf(options)));
  PV_ASSIGN_OR_RETURN(ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  PV_ASSIGN_OR_RETURN(const auto programs, ProgramsOf(options.program, path));
  PV_ASSIGN_OR_RETURN(serve::SimulationSetup setup,
                      serve::SetUpSimulation(std::move(half), decoder, params, programs));
  if (options.noiseless) setup.noise = runtime::NoiseModel::Zero();
  if (options.copies) setup.slots = runtime::SimulatedSlots::kAll;
  return setup;
}

// JSON has neither infinity nor NaN.
json Number(double value) { return std::isfinite(value) ? json(value) : json("not finite"); }

json ToJson(const serve::ExactTally& tally) {
  return {{"tokens", tally.tokens},
          {"changed", tally.changed},
          {"largest_logit_error", Number(tally.largest_error)}};
}

json SitesToJson(const serve::SimulationReport& r) {
  json sites = json::array();
  for (const auto& [name, site] : r.sites) {
    if (site.read.escapes == 0) continue;
    sites.push_back({{"site", name},
                     {"slots", site.read.slots},
                     {"escapes", site.read.escapes},
                     {"not_finite", site.read.not_finite},
                     {"largest_read", Number(site.read.worst)},
                     {"first_in_texts", site.first},
                     {"against_exact_after", ToJson(site.after)}});
  }
  return sites;
}

json GuardToJson(const serve::SimulationReport& r, const serve::ResultLimits& limits) {
  std::uint64_t noticed = 0, unnoticed = 0, harmless = 0;
  for (const serve::EscapedToken& token : r.escaped) {
    if (!r.HasEffect(token))
      harmless += token.alarm;
    else if (token.alarm)
      ++noticed;
    else
      ++unnoticed;
  }
  return {{"limits",
           {{"magnitude", limits.magnitude},
            {"mean_square", Number(limits.mean_square)},
            {"copies", limits.copies},
            {"imaginary", limits.imaginary}}},
          {"false_alarms", r.false_alarms},
          {"effects_noticed", noticed},
          {"effects_unnoticed", unnoticed},
          {"alarms_without_effect", harmless}};
}

json ToJson(const SimulateOptions& options, const serve::SimulationSetup& setup,
            const serve::SimulationReport& r) {
  runtime::EscapeReport read;
  for (const auto& [name, site] : r.sites) read.Merge(site.read);
  serve::ExactTally escaped;
  std::uint64_t effects = 0;
  for (const serve::EscapedToken& token : r.escaped) {
    escaped.Add(token.changed, token.error);
    effects += r.HasEffect(token);
  }
  json after = ToJson(escaped);
  after["with_effect"] = effects;
  return {{"parameters", ParametersOf(options)},
          {"noise", !options.noiseless},
          {"narrowed", options.narrow},
          {"bootstraps_per_token", setup.program->estimate().bootstraps_per_token},
          {"prompts", r.texts},
          {"prompts_with_equal_tokens", r.equal_texts},
          {"tokens", r.tokens},
          {"equal_tokens", r.equal_tokens},
          {"clear_differences", r.clear_differences},
          {"largest_logit_error", Number(r.largest_logit_error)},
          {"smallest_logit_margin", Number(r.smallest_margin)},
          {"slots_read_by_polynomials_and_bootstraps", read.slots},
          {"escapes", read.escapes},
          {"largest_read", Number(read.worst)},
          {"not_finite",
           {{"values", read.not_finite}, {"tokens", r.not_finite}, {"first", r.first_not_finite}}},
          {"against_exact", {{"ordinary", ToJson(r.ordinary)}, {"after_an_escape", after}}},
          {"guard", GuardToJson(r, setup.guard.limits())},
          {"sites", SitesToJson(r)}};
}

Result<serve::SimulationReport> Simulate(const SimulateOptions& options,
                                         const serve::SimulationSetup& setup,
                                         const std::vector<Text>& texts) {
  serve::SimulationReport report;
  Status failure;
  std::mutex mutex;
  ProgressBar bar("prompts", 0);
  ParallelFor(texts.size(), [&](size_t i) {
    const auto one = serve::SimulateText(setup, texts[i], options.tokens, options.seed + i);
    const std::lock_guard lock(mutex);
    if (!one.ok()) {
      failure = MakeError(one.error().code, "prompt {}: {}", i + 1, one.error().message);
      return;
    }
    report.Merge(*one);
    bar.Update(static_cast<double>(report.texts) / static_cast<double>(texts.size()),
               fmt::format("{} of {}", report.texts, texts.size()));
  });
  bar.Clear();
  PV_RETURN_IF_ERROR(failure);
  return report;
}

Status RunSimulate(const SimulateOptions& options) {
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(options.model));
  PV_ASSIGN_OR_RETURN(const serve::SimulationSetup setup, Prepare(options, directory));
  PV_ASSIGN_OR_RETURN(const std::vector<Text> texts, ReadTexts(options, directory, *setup.half));
  if (options.program.choose)
    return SimulateChosenTexts(setup, texts,
                               {{options.tokens, options.temperature, options.seed},
                                options.draws,
                                ParametersOf(options),
                                options.json});
  PV_ASSIGN_OR_RETURN(const serve::SimulationReport report, Simulate(options, setup, texts));
  const std::string text = ToJson(options, setup, report).dump(1) + "\n";
  std::cout << text;
  if (!options.json.empty()) PV_RETURN_IF_ERROR(WriteFile(options.json, text));
  return serve::JudgeSimulation(report);
}

}  // namespace

Command DescribeSimulate(Options& app) {
  auto options = std::make_shared<SimulateOptions>();
  AddModel(app, options->model,
           "a bundle, a converted folder or *.gguf (default: the embedded model)");
  auto* prompts = app.add_option(
      "--prompts", options->prompts,
      "prompts: a file of one a line, or a .json list of texts, of objects with a "
      "\"prompt\", of lists of token ids (default: prompts.txt of the model's folder)");
  app.add_option("--prompt-file", options->prompt_file, "a file that is one prompt")
      ->excludes(prompts);
  AddNumber(app, "--count", options->count, {1, 1000000}, "prompts to run, at most");
  AddNumber(app, "--tokens", options->tokens, {1, 100000}, "new tokens of each");
  AddNumber(app, "--context", options->context, {0, 1 << 16},
            "tokens that a text may have; 0: the model's own or 128");
  AddProgramOptions(app, ", whose noise and levels are simulated", options->program);
  AddChoose(app, options->program);
  AddNumber(app, "--temperature", options->temperature, {0, 4}, "with --choose, of its tokens");
  AddNumber(app, "--draws", options->draws, {0, 1 << 20},
            "with --choose and a temperature: so many draws behind the first prompt, compared with "
            "the softmax by a chi-squared test");
  AddSeed(app, options->seed, "of the noise");
  app.add_flag("--noiseless", options->noiseless, "the program alone, without noise");
  app.add_flag("--copies", options->copies,
               "simulate every slot, so that the client's guard compares the copies of a period");
  AddNumber(
      app, "--narrow", options->narrow, {0, 100},
      "intervals as calibration saw them, each end moved inwards by this ratio of 1 and more; "
      "0: as they are");
  app.add_option("--narrow-site", options->narrow_site, "of these only: norm 1, divisor, norm 2");
  AddOutputFile(app, "--json", options->json, "also write the result to this file");
  return [options] { return RunSimulate(*options); };
}

}  // namespace polyveil::tools
