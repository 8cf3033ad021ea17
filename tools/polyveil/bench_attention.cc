// polyveil bench attention: what variants of attention cost on ciphertexts, from the compiler, and
// measured.
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "approx/softmax.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "bench/layer_bench.h"
#include "compile/form_report.h"
#include "polyveil/bench_commands.h"
#include "polyveil/model_files.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"

namespace polyveil::tools {
namespace {

struct AttentionBenchArguments {
  std::string model, parameters = "decode16", json;
  double score_lo = -12, score_hi = 12;          // of a softmax model
  double softmax_range = 1e4, base_range = 1e6;  // of divisors: largest over smallest
  double error = 0.05;
  std::vector<int> keys = {128, 1024};
  bool measure = false;
  size_t threads = 0;
};

// Seconds of a token on ciphertexts.
struct MeasuredForm {
  double attention = 0, token = 0, keys = 0;
  size_t peak_bytes = 0;
};

struct ComparedForm {
  std::string name, detail;
  model::BodyBundle bundle;
};

model::AttentionForm OfKind(model::AttentionKind kind) {
  model::AttentionForm form;
  form.kind = kind;
  return form;
}

// The model with another inverse of the divisor, kept around the divisor's geometric centre 1.
Result<ComparedForm> WithDivisor(std::string name, model::BodyBundle bundle, double range,
                                 double error, const char* family) {
  const double a = 1 / std::sqrt(range), b = std::sqrt(range), eps = bundle.config.attention_eps;
  const approx::Budget budget{error, 40};
  auto candidates = approx::Candidates(approx::Target::kInverse, a, b, eps, budget);
  std::erase_if(candidates, [&](const auto& c) { return *family != 0 && c.method != family; });
  PV_ASSIGN_OR_RETURN(const approx::Candidate chosen, approx::Choose(candidates, a, b, budget));
  for (model::LayerConfig& layer : bundle.config.layers) layer.divisor_inverse = chosen.polynomial;
  return ComparedForm{
      std::move(name),
      fmt::format("divisor's range {:.3g}: {} from degree {}, {} steps", range, chosen.method,
                  chosen.polynomial.degree(), chosen.polynomial.steps),
      std::move(bundle)};
}

Result<ComparedForm> Exponential(const AttentionBenchArguments& arguments,
                                 const model::BodyBundle& model) {
  PV_ASSIGN_OR_RETURN(
      const approx::ExponentialFit fit,
      approx::FitExponential(arguments.score_lo, arguments.score_hi, arguments.error));
  PV_ASSIGN_OR_RETURN(ComparedForm form,
                      WithDivisor("softmax: exponential, Goldschmidt", model,
                                  arguments.softmax_range, arguments.error, "goldschmidt"));
  for (model::LayerConfig& layer : form.bundle.config.layers) {
    layer.attention = OfKind(model::AttentionKind::kExponential);
    layer.attention.exponential = fit.series;
    layer.attention.squarings = fit.squarings;
  }
  form.detail = fmt::format("exp degree {}, {} squarings; {}", fit.series.degree(), fit.squarings,
                            form.detail);
  return form;
}

Result<ComparedForm> NormaliseSquare(const AttentionBenchArguments& arguments,
                                     const model::BodyBundle& model) {
  PV_ASSIGN_OR_RETURN(const approx::NormaliseSquareFit fit,
                      approx::FitNormaliseSquare(arguments.score_lo, arguments.score_hi,
                                                 model.config.context, arguments.error));
  ComparedForm form{"softmax: normalise and square", "", model};
  for (model::LayerConfig& layer : form.bundle.config.layers) {
    layer.attention = OfKind(model::AttentionKind::kNormaliseSquare);
    layer.attention.exponential = fit.exponential.series;
    for (const approx::Candidate& round : fit.rounds)
      layer.attention.rounds.push_back(round.polynomial);
  }
  form.detail =
      fmt::format("exp degree {}, {} rounds", fit.exponential.series.degree(), fit.rounds.size());
  for (const approx::Candidate& round : fit.rounds)
    form.detail += fmt::format(", {} {}", round.method, round.polynomial.degree());
  return form;
}

ComparedForm Pointwise(const model::BodyBundle& model) {
  ComparedForm form{"pointwise", "no division", model};
  for (model::LayerConfig& layer : form.bundle.config.layers)
    layer.attention = OfKind(model::AttentionKind::kPointwise);
  return form;
}

Result<std::vector<ComparedForm>> Forms(const AttentionBenchArguments& arguments,
                                        const model::BodyBundle& model) {
  std::vector<ComparedForm> forms = {{"Power-Softmax, this model", "as stored", model}};
  PV_ASSIGN_OR_RETURN(ComparedForm base, WithDivisor("Power-Softmax, ranges as they come", model,
                                                     arguments.base_range, arguments.error, ""));
  forms.push_back(std::move(base));
  PV_ASSIGN_OR_RETURN(ComparedForm exponential, Exponential(arguments, model));
  forms.push_back(std::move(exponential));
  PV_ASSIGN_OR_RETURN(ComparedForm square, NormaliseSquare(arguments, model));
  forms.push_back(std::move(square));
  forms.push_back(Pointwise(model));
  return forms;
}

// The second token of a text of `keys`, so that what is made once is there. Its values are any:
// no operation takes longer for some than for others.
Result<MeasuredForm> MeasureForm(const model::Decoder& decoder, const ckks::ParametersPtr& params,
                                 const compile::MachineSpeed& speed, int keys) {
  const auto longer = std::make_shared<model::Decoder>(decoder);
  longer->context = keys;
  bench::LayerBenchOptions options;
  PV_ASSIGN_OR_RETURN(options.program, runtime::CompileModel(longer, params, speed));
  std::mt19937 generator(1);
  std::normal_distribution<double> normal(0, 0.5);
  options.tokens.assign(2, std::vector<double>(static_cast<size_t>(decoder.width())));
  for (auto& token : options.tokens)
    for (double& x : token) x = normal(generator);
  PV_ASSIGN_OR_RETURN(const bench::LayerReport report, bench::RunLayerBench(options));
  PV_ASSIGN_OR_RETURN(const compile::Graph plan, options.program->Program(1, nullptr));
  MeasuredForm out{0, report.tokens.back().seconds, report.keys_seconds, report.peak_rss_bytes};
  for (const std::string& name : compile::AttentionOperations(plan))
    if (const auto at = report.operations.find(name); at != report.operations.end())
      out.attention += at->second;
  return out;
}

nlohmann::ordered_json ToJson(const ComparedForm& form, const compile::FormReport& r) {
  nlohmann::ordered_json out = {{"form", form.name},
                                {"detail", form.detail},
                                {"nonlinearity_depth", r.nonlinearity_depth},
                                {"attention_depth", r.attention_depth},
                                {"block_depth", r.block_depth},
                                {"products_per_layer", r.products},
                                {"plain_products_per_layer", r.plain_products},
                                {"rotations_per_layer", r.rotations},
                                {"bootstraps_per_token", r.bootstraps}};
  for (const compile::FormLatency& latency : r.latency)
    out["latency"].push_back({{"keys", latency.keys},
                              {"attention_seconds", latency.attention_seconds},
                              {"token_seconds", latency.token_seconds},
                              {"bootstraps", latency.bootstraps}});
  return out;
}

void PrintRow(const ComparedForm& form, const compile::FormReport& r) {
  std::string line =
      fmt::format("{:36} {:6} {:6} {:9} {:6} {:10} {:11}", form.name, r.nonlinearity_depth,
                  r.block_depth, r.products, r.plain_products, r.rotations, r.bootstraps);
  for (const compile::FormLatency& latency : r.latency)
    line += fmt::format("  {:8.2f} {:8.2f}", latency.attention_seconds, latency.token_seconds);
  std::printf("%s\n", line.c_str());
}

// A form that does not run leaves the others' figures as they are.
nlohmann::ordered_json PrintMeasured(const Result<MeasuredForm>& measured, int keys) {
  std::printf("%36s on ciphertexts, %d keys: ", "", keys);
  nlohmann::ordered_json json = {{"keys", keys}};
  if (measured.ok()) {
    const MeasuredForm& m = *measured;
    std::printf("attention %.2f s, token %.2f s; keys in %.0f s, %s\n", m.attention, m.token,
                m.keys, Bytes(m.peak_bytes).c_str());
    json.update({{"attention_seconds", m.attention},
                 {"token_seconds", m.token},
                 {"peak_rss_bytes", m.peak_bytes}});
  } else {
    std::printf("not measured: %s\n", measured.error().message.c_str());
    json["why_not"] = measured.error().message;
  }
  std::fflush(stdout);
  return json;
}

void PrintHead(const AttentionBenchArguments& arguments, const model::ModelConfig& config) {
  std::printf(
      "%s: estimates of a token's step, %d layers of width %d; operations of one layer, bootstraps "
      "of all\n",
      arguments.parameters.c_str(), config.n_layers, config.d_model);
  std::string line = fmt::format("{:36} {:>6} {:>6} {:>9} {:>6} {:>10} {:>11}", "", "depth",
                                 "block", "products", "plain", "rotations", "bootstraps");
  for (const int keys : arguments.keys)
    line += fmt::format("  {:>17}", fmt::format("{} keys: op, all", keys));
  std::printf("%s\n", line.c_str());
}

Status Run(const AttentionBenchArguments& arguments) {
  if (arguments.score_lo >= arguments.score_hi)
    return MakeError(ErrorCode::kInvalidArgument, "--score-lo {} is not below --score-hi {}",
                     arguments.score_lo, arguments.score_hi);
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(const model::BodyBundle model, model::LoadBodyBundle(directory));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(arguments.parameters));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  const compile::MachineSpeed speed =
      compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(Threads()));
  PV_ASSIGN_OR_RETURN(const std::vector<ComparedForm> forms, Forms(arguments, model));
  PrintHead(arguments, model.config);
  nlohmann::ordered_json json = {{"parameters", arguments.parameters},
                                 {"scores", {arguments.score_lo, arguments.score_hi}},
                                 {"error", arguments.error}};
  for (const ComparedForm& form : forms) {
    const auto report =
        compile::ReportForm(model::DecoderOfBundle(form.bundle), params, speed, arguments.keys);
    if (!report.ok()) {
      std::printf("%-36s %s\n", form.name.c_str(), report.error().message.c_str());
      json["refused"].push_back({{"form", form.name}, {"why", report.error().message}});
      continue;
    }
    PrintRow(form, *report);
    json["forms"].push_back(ToJson(form, *report));
    if (!arguments.measure) continue;
    const int keys = arguments.keys.front();
    json["forms"].back()["measured"] =
        PrintMeasured(MeasureForm(model::DecoderOfBundle(form.bundle), params, speed, keys), keys);
  }
  for (const ComparedForm& form : forms)
    std::printf("  %s: %s\n", form.name.c_str(), form.detail.c_str());
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, json.dump(1) + "\n");
}

}  // namespace

Command DescribeBenchAttention(Options& app) {
  auto arguments = std::make_shared<AttentionBenchArguments>();
  app.description(
      "What variants of attention cost on ciphertexts, side by side: depth, operations, "
      "bootstraps,\n"
      "time. The model's own is exchanged; nothing is encrypted without --measure.");
  AddModel(app, arguments->model, "folder of a bundle (default: the embedded model)");
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  AddNumber(app, "--score-lo", arguments->score_lo, {-1e6, 1e6},
            "smallest score of the softmax to approximate");
  AddNumber(app, "--score-hi", arguments->score_hi, {-1e6, 1e6}, "its largest score");
  AddNumber(app, "--softmax-range", arguments->softmax_range, {1, 1e12}, "range of its divisor");
  AddNumber(app, "--base-range", arguments->base_range, {1, 1e12},
            "range of the divisor of a Power-Softmax trained without a penalty");
  AddNumber(app, "--error", arguments->error, {1e-6, 0.5}, "relative error of each approximation");
  AddNumber(app, "--keys", arguments->keys, {1, 1 << 20}, "numbers of keys to estimate for");
  app.add_flag("--measure", arguments->measure,
               "also a token of each on ciphertexts, with the first number of keys");
  AddThreads(app, arguments->threads, "the estimate");
  AddOutputFile(app, "--json", arguments->json, "also write the table to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
