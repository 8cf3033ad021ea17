// polyveil bench layer: one layer of a released model, or of its shape, on ciphertexts.
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "bench/layer_bench.h"
#include "polyveil/bench_commands.h"
#include "polyveil/block_inputs.h"
#include "polyveil/block_text.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "polyveil/report_page.h"
#include "polyveil/terminal.h"
#include "ring/kernels.h"
#include "runtime/compile_model.h"
#include "version.h"

namespace polyveil::tools {
namespace {

using nlohmann::json;

struct LayerBenchArguments {
  std::string model, text, parameters, keys = "auto", json, page;
  BlockRange layers;
  int tokens = 2, context = 0, at_once = 0;
  double margin = 1.3, key_gigabytes = 6;
  BlockDegrees degrees;
  size_t threads = 0;
};

struct Measurement {
  std::string name;
  std::shared_ptr<const compile::CompiledDecoder> program;
  bool at_once = false;
  std::vector<compile::LevelStage> levels;
  bench::LayerReport report;
  std::function<std::string(std::span<const double>)> next_token;
};

// What reads so many tokens at once; 0: the step of one. Errors: kOutOfRange where nothing does.
Result<const compile::CompiledDecoder*> AtOnceProgram(const compile::CompiledDecoder& step,
                                                      int at_once) {
  if (at_once == 0) return &step;
  const auto& prompts = step.prompts();
  const size_t found = step.PromptFor(at_once);
  if (found < prompts.size()) return prompts[found].get();
  return MakeError(ErrorCode::kOutOfRange, "{} tokens at once > {}, the most that a program takes",
                   at_once, prompts.empty() ? 0 : prompts.back()->prompt_tokens());
}

Result<Measurement> Measure(const LayerBenchArguments& arguments) {
  if (arguments.at_once > arguments.tokens)
    return MakeError(ErrorCode::kOutOfRange, "--at-once {} > --tokens {}: they are its first ones",
                     arguments.at_once, arguments.tokens);
  PV_ASSIGN_OR_RETURN(BlockText text,
                      CalibratedLayers(arguments.model, arguments.layers, arguments.tokens,
                                       arguments.text, arguments.degrees, arguments.margin));
  const bool causal = text.blocks.front().shape.causal;  // an encoder reads all tokens at once
  const int at_once = causal ? arguments.at_once : arguments.tokens;
  const compile::DecoderPrograms programs{.prompts = at_once > 0};
  PV_ASSIGN_OR_RETURN(const auto spec,
                      ckks::FindParameters(arguments.parameters.empty()
                                               ? runtime::DefaultParameters(programs, causal)
                                               : arguments.parameters));
  PV_ASSIGN_OR_RETURN(const auto params, ckks::Parameters::Create(spec));
  const auto speed = compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(Threads()));
  Measurement result;
  result.at_once = programs.prompts;
  result.name = fmt::format("{}, layers {}..{}", text.name, arguments.layers.first,
                            arguments.layers.first + arguments.layers.count - 1);
  result.next_token = std::move(text.next_token);
  const int context = std::max(arguments.context, arguments.tokens);
  const auto decoder = std::make_shared<const model::Decoder>(
      model::Decoder{result.name, "", std::move(text.blocks), context, arguments.margin});
  PV_ASSIGN_OR_RETURN(result.program, runtime::CompileModel(decoder, params, speed, programs));
  PV_ASSIGN_OR_RETURN(const auto* ran, AtOnceProgram(*result.program, at_once));
  result.levels = ran->estimate().levels;
  bench::LayerBenchOptions options;
  options.program = result.program;
  options.tokens = std::move(text.inputs);
  options.at_once = at_once;
  options.key_budget = static_cast<size_t>(arguments.key_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(options.key_storage, ckks::ParseKeyStorage(arguments.keys));
  const compile::Estimate& estimate = result.program->estimate();
  std::printf("%s\n%s\n%s", result.name.c_str(), params->Describe().c_str(),
              EstimateToText(*result.program).c_str());
  std::fflush(stdout);
  const double one_by_one = estimate.seconds_per_token * (arguments.tokens - at_once);
  ProgressBar bar("layer", one_by_one + (at_once > 0 ? ran->estimate().seconds_per_token : 0));
  options.on_progress = [&](double done, const std::string& label) { bar.Update(done, label); };
  PV_ASSIGN_OR_RETURN(result.report, bench::RunLayerBench(options));
  return result;
}

double MeasuredSeconds(const bench::LayerReport& report, const char* component) {
  for (const auto& row : report.latency.components)
    if (row.name == component) return row.seconds / report.latency.steps;
  return 0;
}

json ToJson(const LayerBenchArguments& arguments, const Measurement& m) {
  const bench::LayerReport& r = m.report;
  json components = json::array(), primitives = json::array(), tokens = json::array();
  for (int i = 0; i < compile::kComponentCount; ++i) {
    const char* name = compile::ComponentName(static_cast<compile::Component>(i));
    components.push_back({{"name", name},
                          {"seconds", MeasuredSeconds(r, name)},
                          {"estimated", r.estimated[static_cast<size_t>(i)]}});
  }
  for (const auto& row : r.latency.primitives)
    primitives.push_back({{"name", row.name}, {"count", row.count}, {"seconds", row.seconds}});
  for (const auto& t : r.tokens) {
    tokens.push_back({{"seconds", t.seconds},
                      {"error", t.error},
                      {"exact_error", t.exact_error},
                      {"largest", t.size},
                      {"rms", t.rms},
                      {"update", t.update}});
    if (!m.next_token) continue;
    tokens.back()["next"] = {{"ciphertexts", m.next_token(t.output)},
                             {"float64", m.next_token(t.polynomial)},
                             {"exact", m.next_token(t.exact)}};
  }
  return {{"format", "polyveil-bench-layer/1"},
          {"layers", m.name},
          {"parameters", m.program->params()->Describe()},
          {"plan", EstimateToJson(*m.program)},
          {"tokens", tokens},
          {"components", components},
          {"primitives", primitives},
          {"keys", r.key_count},
          {"key_bytes", r.key_bytes},
          {"keys_seconds", r.keys_seconds},
          {"state_bytes", r.state_bytes},
          {"peak_rss_bytes", r.peak_rss_bytes},
          {"threads", Threads()},
          {"backend", ring::ActiveKernels().name},
          {"key_storage", arguments.keys},
          {"cpu", CpuName()},
          {"commit", POLYVEIL_COMMIT}};
}

// Client and server are one process whose key ends with it: errors are for everyone.
ReportPage ToPage(const Measurement& m) {
  const bench::LayerReport& r = m.report;
  ReportPage page;
  page.title = m.name;
  page.facts = {{"parameters", m.program->params()->Describe()},
                {"keys", fmt::format("{}, {} in memory, made in {}", r.key_count,
                                     Bytes(r.key_bytes), FormatSeconds(r.keys_seconds))},
                {"keys as they would be sent", Bytes(r.wire_key_bytes)},
                {"cache", Bytes(r.state_bytes)},
                {"peak memory", Bytes(r.peak_rss_bytes) + " (client and server)"},
                {"machine", fmt::format("{}, {} threads, {}", CpuName(), Threads(),
                                        ring::ActiveKernels().name)}};
  page.latency = r.latency;
  page.planned = r.estimated;
  page.levels = m.levels;
  for (size_t i = 0; i < r.tokens.size(); ++i)
    page.steps.push_back(
        {fmt::format("token {}", i + 1), r.tokens[i].seconds,
         fmt::format("error {:.2e} of values up to {:.3g}; with exact functions "
                     "{:.2e}",
                     r.tokens[i].error, r.tokens[i].size, r.tokens[i].exact_error)});
  return page;
}

void Print(const Measurement& m) {
  const bench::LayerReport& r = m.report;
  std::printf("%-24s%12s%12s\n", m.at_once ? "seconds at once" : "seconds a token", "measured",
              "estimated");
  double estimated = 0;
  for (int i = 0; i < compile::kComponentCount; ++i) {
    const char* name = compile::ComponentName(static_cast<compile::Component>(i));
    const double plan = r.estimated[static_cast<size_t>(i)];
    estimated += plan;
    if (plan > 0 || MeasuredSeconds(r, name) > 0)
      std::printf("  %-22s%12.3f%12.3f\n", name, MeasuredSeconds(r, name), plan);
  }
  std::printf("  %-22s%12.3f%12.3f\n", "total", r.latency.total_seconds / r.latency.steps,
              estimated);
  for (const auto& row : r.latency.primitives)
    std::printf("    %-32s%6d%12.3f s\n", row.name.c_str(), row.count, row.seconds);
  for (size_t i = 0; i < r.tokens.size(); ++i) {
    const auto& t = r.tokens[i];
    std::printf(
        "token %zu: %.2f s; error %.2e (exact functions: %.2e); outputs: largest %.3g, rms %.3g, "
        "largest change %.3g\n",
        i, t.seconds, t.error, t.exact_error, t.size, t.rms, t.update);
    if (m.next_token)
      std::printf("         next: \"%s\"; float64 \"%s\"; exact functions \"%s\"\n",
                  m.next_token(t.output).c_str(), m.next_token(t.polynomial).c_str(),
                  m.next_token(t.exact).c_str());
  }
  std::printf("keys         %d: %s in memory, made in %s\n", r.key_count,
              Bytes(r.key_bytes).c_str(), FormatSeconds(r.keys_seconds).c_str());
  std::printf("cache        %s\npeak memory  %s (client and server)\n",
              Bytes(r.state_bytes).c_str(), Bytes(r.peak_rss_bytes).c_str());
}

Status Run(const LayerBenchArguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const Measurement measurement, Measure(arguments));
  Print(measurement);
  if (!arguments.json.empty())
    PV_RETURN_IF_ERROR(WriteFile(arguments.json, ToJson(arguments, measurement).dump(1) + "\n"));
  PV_RETURN_IF_ERROR(WriteReportPage(arguments.page, ToPage(measurement)));
  const auto& tokens = measurement.report.tokens;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (!std::isfinite(tokens[i].error) || !std::isfinite(tokens[i].exact_error))
      return MakeError(ErrorCode::kMismatch, "token {}: outputs are not finite", i);
  return {};
}

}  // namespace

Command DescribeBenchLayer(Options& app) {
  auto arguments = std::make_shared<LayerBenchArguments>();
  AddModel(app, arguments->model, "folder or *.gguf of a released decoder, or the name of a shape")
      ->required();
  AddNumber(app, "--layer", arguments->layers.first, {0, 4096}, "the first layer");
  AddNumber(app, "--layers", arguments->layers.count, {1, 256},
            "how many of them, one after another");
  AddNumber(app, "--tokens", arguments->tokens, {1, 1000}, "tokens to run");
  AddNumber(app, "--context", arguments->context, {0, 1 << 16},
            "tokens that the key-value cache has room for; 0: the tokens run");
  app.add_option("--text", arguments->text,
                 "text to calibrate on (default: a few built-in sentences)");
  AddNumber(app, "--at-once", arguments->at_once, {0, 1000},
            "read the first of the tokens at once, so many");
  app.add_option("--parameters", arguments->parameters,
                 "parameter set (default: decode16, with --at-once prompt16)");
  AddNumber(app, "--margin", arguments->margin, {1, 1000}, "around the ranges seen");
  AddDegrees(app, arguments->degrees);
  app.add_option("--key-storage", arguments->keys, "auto, expanded, compact")
      ->capture_default_str();
  AddNumber(app, "--key-memory", arguments->key_gigabytes, {0, 1e6},
            "GB of keys that auto expands to");
  AddThreads(app, arguments->threads);
  AddOutputFile(app, "--json", arguments->json, "also write the results to this file");
  AddReportPage(app, arguments->page);
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
