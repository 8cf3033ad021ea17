#include "train/distil/config.h"

#include <map>
#include <set>

#include "base/output_file.h"
#include "model/formats/adapter.h"
#include "train/config_fields.h"

namespace polyveil::train {
namespace {

constexpr std::size_t kMaxStages = 64, kMaxSources = 64;

void VisitFit(Fields& f, DistilFit& fit) {
  f.Field("calibration_batches", fit.calibration_batches);
  f.Field("margin", fit.options.margin);
  f.Field("norm_error", fit.options.norm_error);
  f.Field("divisor_error", fit.options.divisor_error);
  f.Field("activation_error", fit.options.activation_error);
  f.Field("max_depth", fit.options.max_depth);
  f.Field("family", fit.options.family);
  f.Optional("degrees", fit.degrees, [](Fields& inner, PolynomialOptions& o) {
    inner.Field("norm1", o.norm1_degree);
    inner.Field("divisor", o.divisor_degree);
    inner.Field("norm2", o.norm2_degree);
    inner.Field("activation", o.activation_degree);
    inner.Field("divisor_ratio", o.divisor_ratio);
    inner.Field("variance_ratio", o.variance_ratio);
    inner.Field("divisor_inner", o.divisor_inner);
    inner.Field("divisor_reach", o.divisor_reach);
    inner.Field("divisor_from_zero", o.divisor_from_zero);
  });
  VisitClamp(f, fit.clamp);
}

void VisitStage(Fields& f, DistilStage& s) {
  int kind = static_cast<int>(s.kind);
  f.Field("name", s.name);
  f.Choice("kind", {"match", "distil"}, kind);
  s.kind = static_cast<DistilStageKind>(kind);
  f.Field("steps", s.steps);
  f.Field("rate", s.rate);
  f.Field("gain_rate", s.gain_rate);
  f.Field("form_rate", s.form_rate);
  f.Field("attention_only", s.attention_only);
  f.Field("exact", s.exact);
  f.Field("kl_weight", s.kl_weight);
  f.Field("pooled_weight", s.pooled_weight);
  f.Field("hidden_weight", s.hidden_weight);
  f.Field("source_weights", s.source_weights);
  VisitSchedule(f, s.schedule);
  f.Object("range", [&](Fields& inner) { VisitRange(inner, s.range); });
  f.Optional("fit", s.fit, VisitFit);
  f.Optional("search", s.search, [](Fields& inner, DistilSearch& search) {
    inner.Field("inputs", search.inputs);
    inner.Field("swap_share", search.swap_share);
    inner.Field("seed", search.seed);
    inner.Field("rows", search.rows);
  });
}

void VisitAdapter(Fields& f, AdapterOptions& adapter) {
  f.Field("rank", adapter.rank);
  f.Field("alpha", adapter.alpha);
  f.Choices("sites", {kAdapterSiteNames.begin(), kAdapterSiteNames.end()}, adapter.sites);
}

void VisitSource(Fields& f, DistilSource& s) {
  int kind = static_cast<int>(s.kind);
  f.Field("name", s.name);
  f.Choice("kind", {"stories", "text", "sampled", "hard"}, kind);
  s.kind = static_cast<SourceKind>(kind);
  f.Field("path", s.path);
  f.Field("weight", s.weight);
  f.Field("chat", s.chat);
  f.Field("sequences", s.sequences);
  f.Field("temperatures", s.temperatures);
  f.Field("top_p", s.top_p);
}

void VisitConfig(Fields& f, DistilConfig& c) {
  int precision = static_cast<int>(c.precision);
  f.Field("name", c.name);
  f.Field("seed", c.seed);
  f.Field("threads", c.threads);
  f.Choice("precision", {"float32", "bf16"}, precision);
  c.precision = static_cast<Precision>(precision);
  f.Optional("adapter", c.adapter, VisitAdapter);
  f.Field("power", c.power);
  f.Field("attention_eps", c.attention_eps);
  f.Field("prefix", c.prefix);
  f.Field("context", c.context);
  f.Field("batch", c.batch);
  f.Field("start_batches", c.start_batches);
  VisitIntervals(f, c);
  f.Objects("sources", c.sources, kMaxSources, VisitSource);
  f.Objects("heldout", c.heldout, kMaxSources, VisitSource);
  f.Field("sampled_rows", c.sampled_rows);
  f.Object("evaluation", [&](Fields& inner) {
    inner.Field("window", c.evaluation.window);
    inner.Field("windows", c.evaluation.windows);
    inner.Field("tasks", c.evaluation.tasks);
    inner.Field("examples", c.evaluation.examples);
    inner.Field("heldout_rows", c.evaluation.heldout_rows);
  });
  f.Objects("stages", c.stages, kMaxStages, VisitStage);
}

Status In(const std::string& name, double value, double lo, double hi) {
  if (value >= lo && value <= hi) return {};
  return MakeError(ErrorCode::kOutOfRange, "config.{} = {}, not in {}..{}", name, value, lo, hi);
}

Status CheckFit(const std::string& at, const DistilFit& fit) {
  PV_RETURN_IF_ERROR(In(at + ".margin", fit.options.margin, 1, 100));
  PV_RETURN_IF_ERROR(CheckClamp(at, fit.clamp));
  if (!fit.degrees) return {};
  const PolynomialOptions& d = *fit.degrees;
  for (const auto& [name, degree] :
       {std::pair{"norm1", d.norm1_degree}, std::pair{"divisor", d.divisor_degree},
        std::pair{"norm2", d.norm2_degree}, std::pair{"activation", d.activation_degree}})
    PV_RETURN_IF_ERROR(In(at + ".degrees." + name, degree, 1, 127));
  for (const auto& [name, ratio] :
       {std::pair{"divisor_ratio", d.divisor_ratio}, std::pair{"variance_ratio", d.variance_ratio},
        std::pair{"divisor_inner", d.divisor_inner}})
    if (ratio != 0) PV_RETURN_IF_ERROR(In(at + ".degrees." + name, ratio, 1, 1e9));
  return In(at + ".degrees.divisor_reach", d.divisor_reach, 1, 1e9);
}

Status CheckStageWeights(const DistilConfig& c, const std::string& at, const DistilStage& s) {
  std::map<std::string, double> own;
  for (const DistilSource& source : c.sources) own[source.name] = source.weight;
  return CheckSourceWeights("config." + at + "source_weights", s.source_weights, own);
}

Status CheckStage(const DistilConfig& c, const std::string& at, const DistilStage& s) {
  PV_RETURN_IF_ERROR(In(at + "steps", static_cast<double>(s.steps), 0, 1e9));
  PV_RETURN_IF_ERROR(CheckFileName("config." + at + "name", s.name));
  for (const auto& [name, weight] : {std::pair{"kl_weight", s.kl_weight},
                                     {"pooled_weight", s.pooled_weight},
                                     {"hidden_weight", s.hidden_weight}})
    PV_RETURN_IF_ERROR(In(at + name, weight, 0, 1e9));
  PV_RETURN_IF_ERROR(CheckStageWeights(c, at, s));
  if (s.search) {
    PV_RETURN_IF_ERROR(In(at + "search.inputs", static_cast<double>(s.search->inputs), 1, 1e12));
    PV_RETURN_IF_ERROR(In(at + "search.swap_share", s.search->swap_share, 0, 0.9));
    PV_RETURN_IF_ERROR(In(at + "search.rows", s.search->rows, 1, 4096));
  }
  if (s.exact && s.fit)
    return MakeError(ErrorCode::kInvalidArgument, "config.{}exact beside a fit", at);
  return s.fit ? CheckFit(at + "fit", *s.fit) : Status();
}

Status CheckAdapter(const AdapterOptions& adapter) {
  PV_RETURN_IF_ERROR(In("adapter.rank", adapter.rank, 1, model::kLargestRank));
  PV_RETURN_IF_ERROR(In("adapter.alpha", adapter.alpha, 1e-6, 1e6));
  if (adapter.sites.empty())
    return MakeError(ErrorCode::kOutOfRange, "config.adapter.sites names none of q to down");
  return {};
}

Status CheckSource(const std::string& at, const DistilSource& s) {
  PV_RETURN_IF_ERROR(CheckFileName("config." + at + ".name", s.name));
  PV_RETURN_IF_ERROR(In(at + ".weight", s.weight, 0, 1e9));
  PV_RETURN_IF_ERROR(In(at + ".chat", s.chat, 0, 1));
  PV_RETURN_IF_ERROR(In(at + ".top_p", s.top_p, 0, 1));
  PV_RETURN_IF_ERROR(In(at + ".temperatures", static_cast<double>(s.temperatures.size()), 1, 64));
  const bool sampled = s.kind == SourceKind::kSampled;
  return In(at + ".sequences", static_cast<double>(s.sequences), sampled ? 1 : 0,
            sampled ? 1 << 24 : 0);
}

// Names are files' too, so they differ; something is read, and held-out sources are texts.
Status CheckSources(const DistilConfig& c) {
  std::set<std::string> names;
  double weight = 0;
  for (const auto* list : {&c.sources, &c.heldout})
    for (std::size_t i = 0; i < list->size(); ++i) {
      const DistilSource& s = (*list)[i];
      const bool held = list == &c.heldout;
      const std::string at = fmt::format("{}[{}]", held ? "heldout" : "sources", i);
      PV_RETURN_IF_ERROR(CheckSource(at, s));
      if (!names.insert(s.name).second)
        return MakeError(ErrorCode::kMismatch, "config.{}.name \"{}\" stands twice", at, s.name);
      if (held && s.kind != SourceKind::kStories && s.kind != SourceKind::kText)
        return MakeError(ErrorCode::kInvalidArgument, "config.{}.kind is no text", at);
      if (!held && s.kind <= SourceKind::kText) weight += s.weight;
    }
  if (weight > 0) return {};
  return MakeError(ErrorCode::kOutOfRange, "config.sources: no text of a weight above 0");
}

Status Check(const DistilConfig& c) {
  PV_RETURN_IF_ERROR(In("threads", c.threads, 1, 1024));
  PV_RETURN_IF_ERROR(In("power", c.power, 2, 12));
  if (c.power % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "config.power = {} is odd", c.power);
  PV_RETURN_IF_ERROR(In("attention_eps", c.attention_eps, 0, 0.999));
  PV_RETURN_IF_ERROR(In("context", c.context, static_cast<double>(c.prefix.size()) + 4, 1 << 16));
  PV_RETURN_IF_ERROR(In("batch", c.batch, 1, 4096));
  PV_RETURN_IF_ERROR(In("start_batches", c.start_batches, 1, 1000));
  PV_RETURN_IF_ERROR(In("sampled_rows", c.sampled_rows, 1, 4096));
  PV_RETURN_IF_ERROR(In("evaluation.window", c.evaluation.window, 2, 1 << 16));
  PV_RETURN_IF_ERROR(In("evaluation.heldout_rows", c.evaluation.heldout_rows, 1, 1 << 20));
  PV_RETURN_IF_ERROR(CheckSources(c));
  if (c.adapter) PV_RETURN_IF_ERROR(CheckAdapter(*c.adapter));
  for (std::size_t i = 0; i < c.stages.size(); ++i)
    PV_RETURN_IF_ERROR(CheckStage(c, fmt::format("stages[{}].", i), c.stages[i]));
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
