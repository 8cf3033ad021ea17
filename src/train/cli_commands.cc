#include "train/cli_commands.h"

#include <filesystem>

#include "model/bundle.h"
#include "train/arguments.h"
#include "train/convert.h"
#include "train/files.h"
#include "train/softmax_baseline.h"
#include "train/study.h"
#include "train/throughput.h"

namespace polyveil::train {
namespace {

// What runs of these shapes reach of the machine's matrix product at their precision.
double ExpectedGemmFraction(Precision precision) {
  return precision == Precision::kBf16 ? 0.45 : 0.55;
}

}  // namespace

Status Convert(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments,
                      Arguments::Parse(words,
                                       {"--checkpoint", "--data", "--out", "--name", "--margin",
                                        "--norm-error", "--divisor-error", "--activation-error",
                                        "--depth", "--family", "--batches", "--json"},
                                       {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--checkpoint", "--data", "--out"}));
  ConvertRequest request;
  ConvertOptions& options = request.options;
  request.checkpoint = arguments.Get("--checkpoint");
  request.data = arguments.Get("--data");
  request.out = arguments.Get("--out");
  request.name = arguments.Get("--name", "polynomial");
  options.family = arguments.Get("--family");
  PV_ASSIGN_OR_RETURN(options.margin, arguments.Real("--margin", options.margin));
  PV_ASSIGN_OR_RETURN(options.norm_error, arguments.Real("--norm-error", options.norm_error));
  PV_ASSIGN_OR_RETURN(options.divisor_error,
                      arguments.Real("--divisor-error", options.divisor_error));
  PV_ASSIGN_OR_RETURN(options.activation_error,
                      arguments.Real("--activation-error", options.activation_error));
  PV_ASSIGN_OR_RETURN(const long depth, arguments.Number("--depth", options.max_depth));
  PV_ASSIGN_OR_RETURN(const long batches,
                      arguments.Number("--batches", request.calibration_batches));
  options.max_depth = static_cast<int>(depth);
  request.calibration_batches = static_cast<int>(batches);
  if (options.margin < 1)
    return MakeError(ErrorCode::kInvalidArgument, "--margin {} < 1", options.margin);
  PV_ASSIGN_OR_RETURN(const ConvertResult result, ConvertCheckpoint(request));
  Print(
      out,
      "{}{} positions of training and held-out text: {} out of range, least margin {:.3f}\n{}{}\n",
      ToText(result.conversion), result.seen.first.positions, result.seen.out_of_range,
      result.least_margin, ToText(result.effect), result.checkpoint);
  if (!arguments.Has("--json")) return {};
  const std::string json = nlohmann::ordered_json({{"checkpoint", result.checkpoint},
                                                   {"margin", options.margin},
                                                   {"least_margin", result.least_margin},
                                                   {"sites", ToJson(result.conversion)},
                                                   {"effect", ToJson(result.effect)}})
                               .dump(1) +
                           "\n";
  return WriteFile(arguments.Get("--json"), json.data(), json.size());
}

Status RunStudyCommand(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments,
                      Arguments::Parse(words, {"--config", "--data", "--out", "--pairs", "--only"},
                                       {"--quick", "--estimate"}));
  PV_RETURN_IF_ERROR(arguments.Require({"--config"}));
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(arguments.Get("--config"), 1 << 20));
  PV_ASSIGN_OR_RETURN(StudyConfig study,
                      ParseStudyConfig({bytes.begin(), bytes.end()}, arguments.Has("--quick")));
  if (arguments.Has("--only")) {
    PV_ASSIGN_OR_RETURN(study, OnlyRun(study, arguments.Get("--only")));
  }
  PV_ASSIGN_OR_RETURN(const TrainConfig first, RunConfigOf(study, study.variants.front(), 1));
  const double rate = MeasureGemmRate(torch::kFloat32, first.precision);
  const double fraction = ExpectedGemmFraction(first.precision);
  PV_ASSIGN_OR_RETURN(const double hours, EstimateHours(study, fraction * rate));
  Print(out, "{}: {} variants, about {:.2f} hours of training at {:.0f}% of {:.1f} GFLOP/s\n",
        study.name, study.variants.size(), hours, 100 * fraction, 1e-9 * rate);
  if (arguments.Has("--estimate")) return {};
  PV_RETURN_IF_ERROR(arguments.Require({"--data", "--out"}));
  const StudyOptions options{arguments.Get("--data"), arguments.Get("--out"),
                             arguments.Get("--pairs"),
                             [&](const std::string& line) { Print(out, "{}\n", line); }};
  PV_ASSIGN_OR_RETURN(const auto report, RunStudy(study, options));
  Print(out, "{} runs: {}/study.json, {}/study.html\n", report.at("runs").size(), options.out,
        options.out);
  return {};
}

Status MakeBaseline(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(
          words, {"--checkpoint", "--data", "--out", "--kind", "--margin", "--error", "--windows"},
          {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--checkpoint", "--data"}));
  BaselineOptions options;
  PV_ASSIGN_OR_RETURN(options.kind,
                      model::ParseAttentionKind(arguments.Get("--kind", "exponential")));
  PV_ASSIGN_OR_RETURN(options.norms.margin, arguments.Real("--margin", options.norms.margin));
  PV_ASSIGN_OR_RETURN(options.error, arguments.Real("--error", options.error));
  PV_ASSIGN_OR_RETURN(const long windows, arguments.Number("--windows", options.heldout_windows));
  options.heldout_windows = static_cast<int>(windows);
  PV_ASSIGN_OR_RETURN(const LoadedModel softmax, LoadModel(arguments.Get("--checkpoint")));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.Get("--data")));
  PV_ASSIGN_OR_RETURN(const BaselineResult result, MakeSoftmaxBaseline(softmax, data, options));
  for (std::size_t layer = 0; layer < result.lines.size(); ++layer)
    Print(out, "layer {}: {}\n", layer, result.lines[layer]);
  Print(out,
        "perplexity of {} held-out tokens {:.4f} -> {:.4f} ({:+.3f}%); {} escapes of {} "
        "evaluations, worst ratio {:.3f}\n",
        result.positions, std::exp(result.softmax_nats), std::exp(result.polynomial_nats),
        100 * (std::exp(result.polynomial_nats - result.softmax_nats) - 1), result.escapes,
        result.evaluations, result.worst_ratio);
  if (!arguments.Has("--out")) return {};
  const std::string folder = arguments.Get("--out");
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(arguments.Get("--data") + "/tokenizer.json",
                             folder + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  PV_RETURN_IF_ERROR(
      WriteFile(folder + "/model.json", result.model_json.data(), result.model_json.size()));
  return WriteFile(folder + "/model.safetensors", result.tensors.data(), result.tensors.size());
}

}  // namespace polyveil::train
