#include "train/train_config.h"

#include <cmath>
#include <tuple>

#include "base/output_file.h"
#include "model/ngram.h"
#include "train/config_fields.h"

namespace polyveil::train {
namespace {

// What keeps a short run's inputs within intervals that polynomials can serve. A config file
// without a penalty has these; weights of 0 switch them off.
const RangeOptions kUsualRange{
    {1, 0.008, 2.5}, {0.3, 0.003, 2.5}, {0.1, 0.003, 5}, {0.1, 0.003, 5}};

const std::vector<std::string> kForms = {"softmax", "power-mean", "power-stable", "pointwise"};

void VisitShape(Fields& f, Shape& shape) {
  int ffn = static_cast<int>(shape.ffn);
  f.Field("n_layers", shape.n_layers);
  f.Field("d_model", shape.d_model);
  f.Field("n_heads", shape.n_heads);
  f.Field("d_ff", shape.d_ff);
  f.Choice("ffn", {"bilinear", "gelu"}, ffn);
  f.Field("vocab_size", shape.vocab_size);
  f.Field("context", shape.context);
  f.Field("power", shape.power);
  f.Field("attention_eps", shape.attention_eps);
  f.Field("norm_eps", shape.norm_eps);
  f.Choices("layer_attention", kForms, shape.layer_attention);
  f.Field("layer_powers", shape.layer_powers);
  f.Field("length_agnostic", shape.length_agnostic);
  f.Field("shifted", shape.shifted);
  f.Field("shift_start", shape.shift_start);
  f.Field("qk_norm", shape.qk_norm);
  f.Field("ngram_rows", shape.ngram_rows);
  shape.ffn = static_cast<model::FeedForwardKind>(ffn);
}

void VisitOptimizer(Fields& f, OptimizerOptions& o) {
  f.Field("muon_lr", o.muon_lr);
  f.Field("adam_lr", o.adam_lr);
  f.Field("weight_decay", o.weight_decay);
  f.Field("ngram_decay", o.ngram_decay);
  f.Field("grad_clip", o.grad_clip);
  VisitSchedule(f, o);
}

void VisitPolynomial(Fields& f, PolynomialOptions& o) {
  f.Field("norm1_degree", o.norm1_degree);
  f.Field("divisor_degree", o.divisor_degree);
  f.Field("norm2_degree", o.norm2_degree);
  f.Field("activation_degree", o.activation_degree);
  f.Field("margin", o.margin);
  f.Field("divisor_ratio", o.divisor_ratio);
  f.Field("divisor_inner", o.divisor_inner);
  f.Field("divisor_reach", o.divisor_reach);
  f.Field("divisor_from_zero", o.divisor_from_zero);
  f.Field("variance_ratio", o.variance_ratio);
  f.Field("refit_fraction", o.refit_fraction);
  f.Field("calibration_batches", o.calibration_batches);
  VisitClamp(f, o.clamp);
  f.Field("random_rows", o.random_rows);
  f.Field("hard_rows", o.hard_rows);
  f.Field("hard_candidates", o.hard_candidates);
  f.Field("hard_files", o.hard_files);
}

void Visit(Fields& f, TrainConfig& c) {
  int attention = static_cast<int>(c.attention), precision = static_cast<int>(c.precision);
  f.Field("name", c.name);
  f.Field("seed", c.seed);
  f.Field("threads", c.threads);
  f.Field("float64", c.float64);
  f.Choice("precision", {"float32", "bf16"}, precision);
  f.Object("shape", [&](Fields& inner) { VisitShape(inner, c.shape); });
  f.Choice("attention", kForms, attention);
  f.Field("batch", c.batch);
  f.Field("accumulate", c.accumulate);
  f.Field("steps", c.steps);
  f.Object("optimizer", [&](Fields& inner) { VisitOptimizer(inner, c.optimizer); });
  f.Object("range", [&](Fields& inner) { VisitRange(inner, c.range); });
  f.Optional("polynomial", c.polynomial, VisitPolynomial);
  f.Optional("distillation", c.distillation, [](Fields& inner, DistillationOptions& o) {
    inner.Field("teacher", o.teacher);
    inner.Field("weight", o.weight);
  });
  f.Field("ngram_dropout", c.ngram_dropout);
  f.Field("source_weights", c.source_weights);
  f.Field("init_from", c.init_from);
  VisitIntervals(f, c);
  c.attention = static_cast<AttentionForm>(attention);
  c.precision = static_cast<Precision>(precision);
}

Status CheckPower(int power) {
  if (power >= 2 && power <= 12 && power % 2 == 0) return {};
  return MakeError(ErrorCode::kOutOfRange, "config.shape: power {}, not even in 2..12", power);
}

// Lists by layer, where they are given, name every layer (and one power or every head).
Status CheckLayers(const Shape& s) {
  const auto layers = static_cast<std::size_t>(s.n_layers);
  for (const std::size_t size : {s.layer_attention.size(), s.layer_powers.size()})
    if (size != 0 && size != layers)
      return MakeError(ErrorCode::kMismatch, "config.shape: choices of {} layers, n_layers = {}",
                       size, s.n_layers);
  for (const std::vector<int>& powers : s.layer_powers) {
    if (powers.size() != 1 && powers.size() != static_cast<std::size_t>(s.n_heads))
      return MakeError(ErrorCode::kMismatch,
                       "config.shape.layer_powers: {} powers in a layer of {} heads", powers.size(),
                       s.n_heads);
    for (const int power : powers) PV_RETURN_IF_ERROR(CheckPower(power));
  }
  return CheckPower(s.power);
}

Status CheckNgrams(const TrainConfig& c) {
  if (c.shape.ngram_rows.size() > model::kLargestNgram - model::kSmallestNgram + 1)
    return MakeError(ErrorCode::kOutOfRange, "config.shape.ngram_rows: {} tables > {}",
                     c.shape.ngram_rows.size(), model::kLargestNgram - model::kSmallestNgram + 1);
  for (const int rows : c.shape.ngram_rows)
    if (rows < 1 || rows > model::kMaxNgramRows)
      return MakeError(ErrorCode::kOutOfRange, "config.shape.ngram_rows: {}, not in 1..{}", rows,
                       model::kMaxNgramRows);
  if (c.ngram_dropout >= 0 && c.ngram_dropout < 1 && c.optimizer.ngram_decay >= 0) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "config: ngram_dropout {} not in [0, 1), or optimizer.ngram_decay {} < 0",
                   c.ngram_dropout, c.optimizer.ngram_decay);
}

bool Uses(const TrainConfig& c, AttentionForm form) {
  const auto& layers = c.shape.layer_attention;
  return layers.empty() ? c.attention == form
                        : std::find(layers.begin(), layers.end(), form) != layers.end();
}

Status CheckPolynomial(const PolynomialOptions& p) {
  PV_RETURN_IF_ERROR(CheckClamp("polynomial", p.clamp));
  if (p.hard_candidates < 1)
    return MakeError(ErrorCode::kOutOfRange, "config.polynomial: hard_candidates {} < 1",
                     p.hard_candidates);
  for (const auto& [name, share] :
       {std::pair{"random_rows", p.random_rows}, std::pair{"hard_rows", p.hard_rows},
        std::pair{"refit_fraction", p.refit_fraction}})
    if (!(share >= 0 && share < 1))
      return MakeError(ErrorCode::kOutOfRange, "config.polynomial: {} {} not in [0, 1)", name,
                       share);
  if (p.divisor_inner != 0 && !(p.divisor_inner >= 1))
    return MakeError(ErrorCode::kOutOfRange, "config.polynomial: divisor_inner {} < 1",
                     p.divisor_inner);
  if (!(p.divisor_reach >= 1))
    return MakeError(ErrorCode::kOutOfRange, "config.polynomial: divisor_reach {} < 1",
                     p.divisor_reach);
  if (p.margin >= 1 && p.divisor_ratio >= 0 && p.variance_ratio >= 0) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "config.polynomial: margin {} < 1, or divisor_ratio {} or variance_ratio {} < 0",
                   p.margin, p.divisor_ratio, p.variance_ratio);
}

Status CheckOptimizer(const OptimizerOptions& o) {
  for (const auto& [name, value, most] :
       {std::tuple{"muon_lr", o.muon_lr, 100.0}, std::tuple{"adam_lr", o.adam_lr, 100.0},
        std::tuple{"weight_decay", o.weight_decay, 100.0},
        std::tuple{"grad_clip", o.grad_clip, 1e9},
        std::tuple{"warmup", static_cast<double>(o.warmup), 1e9},
        std::tuple{"decay_fraction", o.decay_fraction, 1.0},
        std::tuple{"final_fraction", o.final_fraction, 1.0}})
    if (!(value >= 0 && value <= most))
      return MakeError(ErrorCode::kOutOfRange, "config.optimizer.{} = {}, not in 0..{}", name,
                       value, most);
  return {};
}

Status CheckSourceWeight(const std::string& where, const std::string& name, double weight) {
  constexpr double kMostWeight = 1e9;
  if (weight >= 0 && weight <= kMostWeight) return {};
  return MakeError(ErrorCode::kOutOfRange, "{}.{} = {}, not in 0..{}", where, name, weight,
                   kMostWeight);
}

Status Check(const TrainConfig& c) {
  PV_RETURN_IF_ERROR(CheckFileName("config.name", c.name));
  const Shape& s = c.shape;
  if (s.n_layers < 1 || s.n_heads < 1 || s.d_ff < 1 || s.context < 2 || s.d_model < s.n_heads ||
      s.d_model % s.n_heads != 0)
    return MakeError(ErrorCode::kMismatch,
                     "config.shape: {} layers, width {}, {} heads, ff {}, context {} do not fit",
                     s.n_layers, s.d_model, s.n_heads, s.d_ff, s.context);
  PV_RETURN_IF_ERROR(CheckLayers(s));
  PV_RETURN_IF_ERROR(CheckNgrams(c));
  PV_RETURN_IF_ERROR(CheckOptimizer(c.optimizer));
  if (s.shifted && !(s.shift_start > 0))
    return MakeError(ErrorCode::kOutOfRange, "config.shape.shift_start = {}, not positive",
                     s.shift_start);
  if (c.batch < 1 || c.accumulate < 1 || c.steps < 0 || c.threads < 1)
    return MakeError(ErrorCode::kOutOfRange, "config: batch {} x {}, steps {}, threads {}", c.batch,
                     c.accumulate, c.steps, c.threads);
  if (c.float64 && c.precision != Precision::kFloat32)
    return MakeError(ErrorCode::kInvalidArgument, "config.precision: bf16 in a float64 run");
  if (c.distillation && !(c.distillation->weight >= 0 && c.distillation->weight <= 1))
    return MakeError(ErrorCode::kOutOfRange, "config.distillation.weight = {}, not in [0, 1]",
                     c.distillation->weight);
  // Whether they name sources, the data say.
  for (const auto& [name, weight] : c.source_weights)
    PV_RETURN_IF_ERROR(CheckSourceWeight("config.source_weights", name, weight));
  if (c.polynomial) PV_RETURN_IF_ERROR(CheckPolynomial(*c.polynomial));
  if (c.polynomial && Uses(c, AttentionForm::kPowerStable))
    return MakeError(ErrorCode::kInvalidArgument,
                     "config: the polynomial stage needs power-mean, not power-stable");
  return {};
}

}  // namespace

std::vector<int> Shape::HeadPowers(int layer) const {
  const auto heads = static_cast<std::size_t>(n_heads);
  if (layer_powers.empty()) return std::vector<int>(heads, power);
  const auto& chosen = layer_powers[static_cast<std::size_t>(layer)];
  return chosen.size() == 1 ? std::vector<int>(heads, chosen[0]) : chosen;
}

double Shape::QueryFold() const {
  return qk_norm ? 1 : 1 / std::sqrt(static_cast<double>(d_head()));
}

Status CheckSourceWeights(const std::string& where, const std::map<std::string, double>& weights,
                          const std::map<std::string, double>& own) {
  for (const auto& [name, weight] : weights) {
    PV_RETURN_IF_ERROR(CheckSourceWeight(where, name, weight));
    if (own.contains(name)) continue;
    std::string known;
    for (const auto& [source, unused] : own) known += (known.empty() ? "" : ", ") + source;
    return MakeError(ErrorCode::kMismatch, "{} names \"{}\", no source; there are: {}", where, name,
                     known);
  }
  double sum = 0;
  for (const auto& [source, weight] : own) {
    const auto named = weights.find(source);
    sum += named == weights.end() ? weight : named->second;
  }
  if (sum > 0) return {};
  return MakeError(ErrorCode::kInvalidArgument, "{}: every source's weight is 0", where);
}

Result<TrainConfig> ParseTrainConfig(std::string_view text) {
  TrainConfig config;
  config.range = kUsualRange;
  return ParseConfig(text, std::move(config), Visit, Check);
}

std::string FormatTrainConfig(const TrainConfig& config) { return FormatConfig(config, Visit); }

}  // namespace polyveil::train
