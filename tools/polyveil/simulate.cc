// polyveil simulate: greedy continuations on the slot simulator with noise, against the float64
// model.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "model/client/language_model.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "runtime/compile_model.h"
#include "runtime/simulator.h"

namespace polyveil::tools {

namespace {

struct SimulateOptions {
  std::string model, prompts, parameters = "decode16", json;
  int count = 200, tokens = 16;
  std::uint64_t seed = 1;
  bool noiseless = false;
};

struct Setup {
  model::LanguageModelBundle language;
  std::shared_ptr<const compile::CompiledModel> program;
  runtime::NoiseModel noise;
};

// What one prompt showed.
struct Outcome {
  int tokens = 0, agreeing = 0;
  double largest_logit_error = 0,
         smallest_margin = 1e30;  // margin: first minus second logit of the reference
  std::map<std::string, runtime::EscapeReport> escapes;
};

struct Summary {
  int prompts = 0, agreeing_prompts = 0, tokens = 0, agreeing_tokens = 0;
  double largest_logit_error = 0, smallest_margin = 1e30;
  std::uint64_t read_slots = 0, escapes = 0;
  double worst_read = 0;
};

Result<std::vector<std::string>> ReadPrompts(const std::string& path, int count) {
  std::ifstream in(path);
  if (!in) return MakeError(ErrorCode::kNotFound, "prompts: cannot read {}", path);
  std::vector<std::string> prompts;
  for (std::string line; static_cast<int>(prompts.size()) < count && std::getline(in, line);) {
    if (!line.empty()) prompts.push_back(line);
  }
  if (static_cast<int>(prompts.size()) < count) {
    return MakeError(ErrorCode::kOutOfRange, "prompts: {} holds {} lines, --count = {}", path,
                     prompts.size(), count);
  }
  return prompts;
}

Result<std::shared_ptr<const Setup>> Prepare(const SimulateOptions& options,
                                             const std::string& directory) {
  PV_ASSIGN_OR_RETURN(model::LanguageModelBundle language, model::LoadLanguageModel(directory));
  auto setup = std::make_shared<Setup>(Setup{std::move(language), nullptr, {}});
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(options.parameters));
  PV_ASSIGN_OR_RETURN(ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  auto body = std::make_shared<model::BodyBundle>(setup->language.body);
  PV_ASSIGN_OR_RETURN(setup->program, runtime::CompileModel(body, params, compile::MachineSpeed{}));
  if (!options.noiseless) setup->noise = runtime::NoiseModel::ForParameters(*params);
  return std::shared_ptr<const Setup>(std::move(setup));
}

// Positions of the largest and the second largest value.
std::pair<size_t, size_t> TopTwo(const std::vector<double>& logits) {
  size_t first = 0, second = 1;
  if (logits[second] > logits[first]) std::swap(first, second);
  for (size_t i = 2; i < logits.size(); ++i) {
    if (logits[i] > logits[first])
      second = std::exchange(first, i);
    else if (logits[i] > logits[second])
      second = i;
  }
  return {first, second};
}

// Feeds the reference's greedy tokens to both, so that every token is compared, also after a
// disagreement.
Result<Outcome> RunPrompt(const Setup& setup, const std::string& prompt, int new_tokens,
                          std::uint64_t seed) {
  std::vector<model::TokenId> text{model::Tokenizer::kEnd};
  for (model::TokenId token : setup.language.tokenizer.Encode(prompt)) text.push_back(token);
  const size_t prompt_tokens = text.size();
  const int context = setup.language.body.config.context;
  if (static_cast<int>(prompt_tokens) + new_tokens > context) {
    return MakeError(ErrorCode::kOutOfRange,
                     "prompt \"{}\": {} tokens and {} new ones > context {}", prompt, prompt_tokens,
                     new_tokens, context);
  }
  model::ReferenceLanguageModel reference(setup.language.body, setup.language.client);
  runtime::Simulator simulator(setup.program, setup.noise, seed);
  Outcome outcome;
  for (size_t i = 0; i < prompt_tokens + new_tokens - 1; ++i) {
    const int position = static_cast<int>(i);
    PV_ASSIGN_OR_RETURN(const std::vector<double> expected, reference.Step(text[i], position));
    PV_ASSIGN_OR_RETURN(const std::vector<double> embedding,
                        model::Embed(setup.language.client, std::span(text).first(i + 1)));
    PV_ASSIGN_OR_RETURN(const std::vector<double> residual, simulator.Step(embedding));
    PV_ASSIGN_OR_RETURN(const std::vector<double> actual,
                        model::Head(setup.language.client, residual));
    if (i + 1 < prompt_tokens) continue;
    const auto [first, second] = TopTwo(expected);
    ++outcome.tokens;
    outcome.agreeing += TopTwo(actual).first == first;
    outcome.smallest_margin = std::min(outcome.smallest_margin, expected[first] - expected[second]);
    for (size_t k = 0; k < actual.size(); ++k) {
      outcome.largest_logit_error =
          std::max(outcome.largest_logit_error, std::abs(actual[k] - expected[k]));
    }
    text.push_back(static_cast<model::TokenId>(first));
  }
  outcome.escapes = simulator.escapes();
  return outcome;
}

void Collect(const Outcome& outcome, Summary& summary) {
  ++summary.prompts;
  summary.agreeing_prompts += outcome.agreeing == outcome.tokens;
  summary.tokens += outcome.tokens;
  summary.agreeing_tokens += outcome.agreeing;
  summary.largest_logit_error = std::max(summary.largest_logit_error, outcome.largest_logit_error);
  summary.smallest_margin = std::min(summary.smallest_margin, outcome.smallest_margin);
  for (const auto& [site, report] : outcome.escapes) {
    summary.read_slots += report.slots;
    summary.escapes += report.escapes;
    summary.worst_read = std::max(summary.worst_read, report.worst);
  }
}

nlohmann::json ToJson(const SimulateOptions& options, const Setup& setup, const Summary& s) {
  return {{"parameters", options.parameters},
          {"noise", !options.noiseless},
          {"bootstraps_per_token", setup.program->estimate().bootstraps_per_token},
          {"prompts", s.prompts},
          {"prompts_with_equal_tokens", s.agreeing_prompts},
          {"tokens", s.tokens},
          {"equal_tokens", s.agreeing_tokens},
          {"largest_logit_error", s.largest_logit_error},
          {"smallest_logit_margin", s.smallest_margin},
          {"slots_read_by_polynomials_and_bootstraps", s.read_slots},
          {"escapes", s.escapes},
          {"largest_read", s.worst_read}};
}

Status RunSimulate(const SimulateOptions& options) {
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(options.model));
  const std::string path = options.prompts.empty() ? directory + "/prompts.txt" : options.prompts;
  PV_ASSIGN_OR_RETURN(const std::vector<std::string> prompts, ReadPrompts(path, options.count));
  PV_ASSIGN_OR_RETURN(const std::shared_ptr<const Setup> setup, Prepare(options, directory));
  Summary summary;
  Status failure;
  std::mutex mutex;
  ProgressBar bar("prompts", 0);
  ParallelFor(prompts.size(), [&](size_t i) {
    const auto outcome = RunPrompt(*setup, prompts[i], options.tokens, options.seed + i);
    const std::lock_guard lock(mutex);
    if (!outcome.ok()) {
      failure = outcome.error();
      return;
    }
    Collect(*outcome, summary);
    bar.Update(summary.prompts / static_cast<double>(prompts.size()),
               fmt::format("{} of {}", summary.prompts, prompts.size()));
  });
  bar.Clear();
  PV_RETURN_IF_ERROR(failure);
  const nlohmann::json json = ToJson(options, *setup, summary);
  std::cout << json.dump(1) << "\n";
  if (options.json.empty()) return {};
  return WriteFile(options.json, json.dump(1) + "\n");
}

}  // namespace

Command DescribeSimulate(CLI::App& app) {
  auto options = std::make_shared<SimulateOptions>();
  app.add_option("--model", options->model, "model folder (default: the embedded model)");
  app.add_option("--prompts", options->prompts,
                 "file of prompts, one a line (default: the model's prompts.txt)");
  AddNumber(app, "--count", options->count, {1, 1000000}, "prompts to run");
  AddNumber(app, "--tokens", options->tokens, {1, 100000}, "new tokens of each");
  app.add_option("--params", options->parameters,
                 "parameter set whose noise and levels are simulated");
  AddSeed(app, options->seed, "of the noise");
  app.add_flag("--noiseless", options->noiseless, "the program alone, without noise");
  AddOutputFile(app, "--json", options->json, "also write the result to this file");
  return [options] { return RunSimulate(*options); };
}

}  // namespace polyveil::tools
