#include "train/distil/config.h"

#include "base/output_file.h"
#include "train/config_fields.h"

namespace polyveil::train {
namespace {

constexpr std::size_t kMaxStages = 64;

void VisitFit(Fields& f, DistilFit& fit) {
  f.Field("calibration_batches", fit.calibration_batches);
  f.Field("margin", fit.options.margin);
  f.Field("norm_error", fit.options.norm_error);
  f.Field("divisor_error", fit.options.divisor_error);
  f.Field("activation_error", fit.options.activation_error);
  f.Field("max_depth", fit.options.max_depth);
  f.Field("family", fit.options.family);
  VisitClamp(f, fit.clamp);
}

void VisitStage(Fields& f, DistilStage& s) {
  int kind = static_cast<int>(s.kind);
  f.Field("name", s.name);
  f.Choice("kind", {"match", "distil"}, kind);
  s.kind = static_cast<DistilStageKind>(kind);
  f.Field("steps", s.steps);
  f.Field("rate", s.rate);
  f.Field("form_rate", s.form_rate);
  f.Field("attention_only", s.attention_only);
  f.Field("kl_weight", s.kl_weight);
  f.Field("hidden_weight", s.hidden_weight);
  f.Field("sampled_share", s.sampled_share);
  VisitSchedule(f, s.schedule);
  f.Object("range", [&](Fields& inner) { VisitRange(inner, s.range); });
  f.Optional("fit", s.fit, VisitFit);
}

void VisitConfig(Fields& f, DistilConfig& c) {
  f.Field("name", c.name);
  f.Field("seed", c.seed);
  f.Field("threads", c.threads);
  f.Field("power", c.power);
  f.Field("attention_eps", c.attention_eps);
  f.Field("prefix", c.prefix);
  f.Field("context", c.context);
  f.Field("batch", c.batch);
  f.Field("start_batches", c.start_batches);
  VisitIntervals(f, c);
  f.Object("sampling", [&](Fields& inner) {
    inner.Field("sequences", c.sampling.sequences);
    inner.Field("rows", c.sampling.rows);
    inner.Field("temperature", c.sampling.temperature);
    inner.Field("top_p", c.sampling.top_p);
  });
  f.Object("evaluation", [&](Fields& inner) {
    inner.Field("window", c.evaluation.window);
    inner.Field("windows", c.evaluation.windows);
    inner.Field("tasks", c.evaluation.tasks);
    inner.Field("examples", c.evaluation.examples);
    inner.Field("heldout_rows", c.evaluation.heldout_rows);
  });
  f.Objects("stages", c.stages, kMaxStages, VisitStage);
}

Status Check(const DistilConfig& c) {
  const auto in = [](const char* name, double value, double lo, double hi) -> Status {
    if (value >= lo && value <= hi) return {};
    return MakeError(ErrorCode::kOutOfRange, "config.{} = {}, not in {}..{}", name, value, lo, hi);
  };
  PV_RETURN_IF_ERROR(in("threads", c.threads, 1, 1024));
  PV_RETURN_IF_ERROR(in("power", c.power, 2, 12));
  if (c.power % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "config.power = {} is odd", c.power);
  PV_RETURN_IF_ERROR(in("attention_eps", c.attention_eps, 0, 0.999));
  PV_RETURN_IF_ERROR(in("context", c.context, static_cast<double>(c.prefix.size()) + 4, 1 << 16));
  PV_RETURN_IF_ERROR(in("batch", c.batch, 1, 4096));
  PV_RETURN_IF_ERROR(in("start_batches", c.start_batches, 1, 1000));
  PV_RETURN_IF_ERROR(in("sampling.rows", c.sampling.rows, 1, 4096));
  PV_RETURN_IF_ERROR(in("evaluation.window", c.evaluation.window, 2, 1 << 16));
  PV_RETURN_IF_ERROR(in("evaluation.heldout_rows", c.evaluation.heldout_rows, 1, 1 << 20));
  for (std::size_t i = 0; i < c.stages.size(); ++i) {
    const DistilStage& s = c.stages[i];
    const std::string at = fmt::format("stages[{}].", i);
    PV_RETURN_IF_ERROR(in((at + "steps").c_str(), static_cast<double>(s.steps), 0, 1e9));
    PV_RETURN_IF_ERROR(in((at + "sampled_share").c_str(), s.sampled_share, 0, 1));
    PV_RETURN_IF_ERROR(CheckFileName("config." + at + "name", s.name));
    if (s.sampled_share > 0 && c.sampling.sequences == 0)
      return MakeError(ErrorCode::kMismatch,
                       "config.{}sampled_share = {}, but sampling.sequences "
                       "is 0",
                       at, s.sampled_share);
    if (!s.fit) continue;
    PV_RETURN_IF_ERROR(in((at + "fit.margin").c_str(), s.fit->options.margin, 1, 100));
    PV_RETURN_IF_ERROR(CheckClamp(at + "fit", s.fit->clamp));
  }
  return {};
}

}  // namespace

Result<DistilConfig> ParseDistilConfig(std::string_view text) {
  return ParseConfig(text, DistilConfig(), VisitConfig, Check);
}

std::string FormatDistilConfig(const DistilConfig& config) {
  return FormatConfig(config, VisitConfig);
}

}  // namespace polyveil::train
