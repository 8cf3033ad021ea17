// Verbs that make polynomial models of trained ones, and studies.
#include <filesystem>
#include <memory>

#include "base/output_file.h"
#include "model/client/language_model.h"
#include "train/cli.h"
#include "train/cli_options.h"
#include "train/convert.h"
#include "train/search.h"
#include "train/softmax_baseline.h"
#include "train/study.h"
#include "train/study_estimate.h"

namespace polyveil::train {
namespace {

constexpr NumberRange<double> kError = {1e-9, 1}, kMargin = {1, 1000};

struct ConvertArguments {
  ConvertRequest request;
  std::string json;
};

Status Convert(const ConvertArguments& arguments) {
  const ConvertRequest& request = arguments.request;
  PV_RETURN_IF_ERROR(CheckWritableFolder(request.out));
  PV_ASSIGN_OR_RETURN(const ConvertResult result, ConvertCheckpoint(request));
  Print(
      "{}{} positions of training and held-out text: {} out of range, least margin {:.3f}\n{}{}\n",
      ToText(result.conversion), result.seen.first.positions, result.seen.out_of_range,
      result.least_margin, ToText(result.effect), result.checkpoint);
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, nlohmann::ordered_json({{"checkpoint", result.checkpoint},
                                                           {"margin", request.options.margin},
                                                           {"least_margin", result.least_margin},
                                                           {"sites", ToJson(result.conversion)},
                                                           {"effect", ToJson(result.effect)}})
                                           .dump(1) +
                                       "\n");
}

struct StudyArguments {
  std::string config, data, out, pairs, only;
  bool quick = false, estimate = false;
};

Status RunStudyCommand(const StudyArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string text, ReadConfigText(arguments.config));
  PV_ASSIGN_OR_RETURN(StudyConfig study, ParseStudyConfig(text, arguments.quick));
  if (!arguments.only.empty()) {
    PV_ASSIGN_OR_RETURN(study, OnlyRun(study, arguments.only));
  }
  if (!arguments.estimate)
    for (const auto& [option, value] :
         {std::pair{"--data", &arguments.data}, std::pair{"--out", &arguments.out}})
      if (value->empty())
        return MakeError(ErrorCode::kInvalidArgument, "{} is missing (--estimate needs none)",
                         option);
  std::uint64_t heldout = 0;
  if (!arguments.data.empty()) {
    PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.data));
    heldout = data.HeldoutTokens();
  }
  PV_ASSIGN_OR_RETURN(const StudyEstimate estimate, EstimateStudy(study, heldout));
  Print(
      "{}: {} variants, about {:.2f} hours: {:.2f} of training at the measured pace, {:.2f} of "
      "analysis\n",
      study.name, study.variants.size(), estimate.training_hours + estimate.analysis_hours,
      estimate.training_hours, estimate.analysis_hours);
  if (arguments.estimate) return {};
  PV_RETURN_IF_ERROR(CheckWritableFolder(arguments.out));
  const StudyOptions options{arguments.data, arguments.out, arguments.pairs,
                             [&](const std::string& line) { Print("{}\n", line); }};
  PV_ASSIGN_OR_RETURN(const auto report, RunStudy(study, options));
  Print("{} runs: {}/study.json; its page: scripts/study_page.py {}/study.json\n",
        report.at("runs").size(), options.out, options.out);
  return {};
}

struct SearchArguments {
  std::string model, data, json;
  SearchOptions options;
  bool certify = false;
};

Status Search(const SearchArguments& arguments) {
  SearchOptions options = arguments.options;
  options.progress = [&](const std::string& line) { Print("{}\n", line); };
  PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(arguments.model));
  options.residual_bound = loaded.residual_bound;
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.data));
  PV_ASSIGN_OR_RETURN(const model::Tokenizer tokenizer, model::LoadTokenizer(arguments.data));
  const HardInputs inputs(RowTokensOf(tokenizer), RowTextsOf(data.heldout),
                          loaded.model->shape().context);
  PV_ASSIGN_OR_RETURN(const SearchReport report, SearchInputs(*loaded.model, inputs, options));
  Print("{}", ToText(report, inputs.tokens()));
  if (!arguments.json.empty())
    PV_RETURN_IF_ERROR(WriteFile(arguments.json, ToJsonText(report, inputs.tokens())));
  return arguments.certify ? Certify(arguments.model, report) : Status();
}

struct BaselineArguments {
  std::string checkpoint, data, out, kind = "exponential";
  BaselineOptions options;
  bool replace = false;
};

void PrintBaseline(const BaselineResult& result) {
  for (std::size_t layer = 0; layer < result.lines.size(); ++layer)
    Print("layer {}: {}\n", layer, result.lines[layer]);
  Print(
      "perplexity of {} held-out tokens {:.4f} -> {:.4f} ({:+.3f}%); {} escapes of {} "
      "evaluations, worst ratio {:.3f}\n",
      result.positions, std::exp(result.softmax_nats), std::exp(result.polynomial_nats),
      100 * (std::exp(result.polynomial_nats - result.softmax_nats) - 1), result.escapes,
      result.evaluations, result.worst_ratio);
}

Status MakeBaseline(const BaselineArguments& arguments) {
  const std::string& folder = arguments.out;
  if (!folder.empty()) {
    PV_RETURN_IF_ERROR(CheckReplace(folder + "/model.json", arguments.replace));
    PV_RETURN_IF_ERROR(CheckWritableFolder(folder));
  }
  BaselineOptions options = arguments.options;
  PV_ASSIGN_OR_RETURN(options.kind, model::ParseAttentionKind(arguments.kind));
  PV_ASSIGN_OR_RETURN(const LoadedModel softmax, LoadModel(arguments.checkpoint));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.data));
  PV_ASSIGN_OR_RETURN(const BaselineResult result, MakeSoftmaxBaseline(softmax, data, options));
  PrintBaseline(result);
  if (folder.empty()) return {};
  PV_ASSIGN_OR_RETURN(const auto tokenizer,
                      model::ReadBundleFile(arguments.data + "/tokenizer.json", 4 << 20));
  PV_RETURN_IF_ERROR(WriteFile(folder + "/tokenizer.json", BytesOf(tokenizer)));
  PV_RETURN_IF_ERROR(WriteFile(folder + "/model.json", result.model_json));
  return WriteFile(folder + "/model.safetensors", BytesOf(result.tensors));
}

}  // namespace

Command DescribeConvert(Options& app) {
  auto a = std::make_shared<ConvertArguments>();
  ConvertRequest& request = a->request;
  ConvertOptions& options = request.options;
  app.description(
      "Makes a trained model polynomial: approximations by depth and error budget, and what they\n"
      "do to held-out text.");
  app.add_option("--checkpoint", request.checkpoint, "checkpoint of a trained model")->required();
  AddData(app, request.data)->required();
  app.add_option("--out", request.out, "folder of runs; the checkpoint goes to OUT/<name>")
      ->required();
  app.add_option("--name", request.name, "the polynomial model's name")->capture_default_str();
  AddNumber(app, "--margin", options.margin, kMargin, "intervals around the ranges seen");
  AddNumber(app, "--norm-error", options.norm_error, kError, "relative error of norms");
  AddNumber(app, "--divisor-error", options.divisor_error, kError, "relative error of divisors");
  AddNumber(app, "--activation-error", options.activation_error, kError,
            "absolute error of activations");
  AddNumber(app, "--depth", options.max_depth, {1, 64}, "most levels of one site");
  app.add_option("--family", options.family, "wherever it meets the budget (default: the cheapest)")
      ->one_of({"remez", "chebyshev", "composite", "goldschmidt", "newton"});
  AddNumber(app, "--batches", request.calibration_batches, {1, 1'000'000},
            "batches of training text that ranges are seen on");
  AddReplace(app, request.replace);
  AddOutputFile(app, "--json", a->json, "also write sites and effect to this file");
  return [a] { return Convert(*a); };
}

Command DescribeStudy(Options& app) {
  auto a = std::make_shared<StudyArguments>();
  app.description(
      "Trains and compares variants of a configuration: OUT/study.json, a page of which\n"
      "scripts/study_page.py makes, at any time.\n"
      "What is done already is kept; Ctrl-C saves a checkpoint before it ends.");
  app.add_option("--config", a->config, "the study, JSON")->required();
  app.add_flag("--quick", a->quick, "with the study's patch \"quick\": minutes");
  app.add_flag("--estimate", a->estimate, "only say how long it would take");
  app.add_option("--only", a->only, "this run alone, <variant>-s<seed>");
  AddData(app, a->data);
  app.add_option("--out", a->out, "folder of the study");
  app.add_option("--pairs", a->pairs, "folder of minimal pairs, which are judged too");
  return [a] { return RunStudyCommand(*a); };
}

Command DescribeSearch(Options& app) {
  auto a = std::make_shared<SearchArguments>();
  SearchOptions& options = a->options;
  app.description(
      "Looks for the inputs that push a polynomial's argument furthest out of its interval.");
  app.add_option("--model", a->model, "checkpoint, or folder of a bundle")->required();
  AddData(app, a->data)->required();
  AddNumber(app, "--inputs", options.inputs, {1, 1'000'000'000'000}, "candidates in all");
  AddSeed(app, options.seed, "of the candidates");
  AddNumber(app, "--swap-share", options.swap_share, {0, 0.9},
            "share of the candidates that are neighbours of the worst so far");
  AddNumber(app, "--threads", options.workers, {1, static_cast<int>(kMaxThreads)},
            "threads with candidates of their own");
  AddOutputFile(app, "--json", a->json, "also write the report to this file");
  app.add_flag("--certify", a->certify, "write the counts into the bundle's certificate");
  return [a] { return Search(*a); };
}

Command DescribeBaseline(Options& app) {
  auto a = std::make_shared<BaselineArguments>();
  BaselineOptions& options = a->options;
  app.description("A softmax model made polynomial directly, nothing retrained, as a bundle.");
  app.add_option("--checkpoint", a->checkpoint, "checkpoint of a softmax model")->required();
  AddData(app, a->data)->required();
  app.add_option("--out", a->out, "folder of the bundle (default: none is written)");
  app.add_option("--kind", a->kind, "what is approximated")
      ->capture_default_str()
      ->one_of({"exponential", "normalise-square"});
  AddNumber(app, "--margin", options.norms.margin, kMargin, "intervals around the ranges seen");
  AddNumber(app, "--error", options.error, kError, "relative error of the weights");
  AddNumber(app, "--windows", options.heldout_windows, {1, 1'000'000},
            "held-out windows to evaluate, about a second each");
  AddReplace(app, a->replace);
  return [a] { return MakeBaseline(*a); };
}

}  // namespace polyveil::train
