#include "train/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "approx/remez.h"
#include "train/activation.h"

namespace polyveil::train {
namespace {

using approx::Approximant;
using approx::Range;
using torch::Tensor;

std::string Site(int layer, const char* rest) { return fmt::format("layer {} / {}", layer, rest); }

// The range seen with a margin at both ends, or a larger one where `ratio` leaves room for it.
Result<Range> Stretched(const SiteRanges& ranges, const std::string& site, double margin,
                        double ratio) {
  const auto it = ranges.find(site);
  if (it == ranges.end() || !(it->second.lo > 0) || !std::isfinite(it->second.hi))
    return MakeError(ErrorCode::kOutOfRange, "{}: range [{}, {}] is not positive and finite", site,
                     it == ranges.end() ? 0 : it->second.lo,
                     it == ranges.end() ? 0 : it->second.hi);
  return approx::WithRatioMargin(it->second,
                                 std::max(margin, std::sqrt(ratio / it->second.ratio())));
}

// Minimax in relative error of 1 / (x + eps)^order, order 1 or 1/2. inner: the ratio around the
// range's centre outside of which the error may grow, to kOuterError of its own size; 0: nowhere.
// The interval ends at `reach` times the range's high end.
Result<Approximant> FitInverse(const Range& range, double eps, double order, int degree,
                               double inner = 0, double reach = 1) {
  constexpr double kOuterError = 1.5;
  const double centre = std::sqrt(range.lo * range.hi), width = 0.5 * std::log(range.ratio());
  const double first = 0.5 * std::log(inner > 0 ? inner : range.ratio());
  const auto f = [=](double x) { return std::pow(x + eps, -order); };
  const auto weight = [=](double x) {
    const double beyond = std::max(0.0, std::abs(std::log(x / centre)) - first);
    const double share = width > first ? std::min(1.0, beyond / (width - first)) : 0;
    return std::pow(x + eps, order) * std::pow(kOuterError, -share);
  };
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit,
                      approx::Minimax(f, weight, range.lo, reach * range.hi, degree));
  return Approximant(fit.series);
}

// Minimax in relative error of 1 / (x + eps) from 0 on.
Result<Approximant> FitFromZero(const SiteRanges& ranges, const std::string& site, double eps,
                                const PolynomialOptions& options) {
  PV_ASSIGN_OR_RETURN(const Range range, Stretched(ranges, site, options.margin, 0));
  PV_ASSIGN_OR_RETURN(
      const approx::MinimaxFit fit,
      approx::Minimax([=](double x) { return 1 / (x + eps); }, [=](double x) { return x + eps; }, 0,
                      options.divisor_reach * range.hi, options.divisor_degree));
  return Approximant(fit.series);
}

Result<Approximant> FitActivation(const Shape& shape, const SiteRanges& ranges,
                                  const std::string& site, const PolynomialOptions& options) {
  const auto it = ranges.find(site);
  if (it == ranges.end()) return MakeError(ErrorCode::kOutOfRange, "{}: never seen", site);
  const double bound = options.margin * std::max(std::abs(it->second.lo), std::abs(it->second.hi));
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit,
                      approx::Minimax(
                          ExactActivation(shape.activation), [](double) { return 1.0; }, -bound,
                          bound, options.activation_degree));
  return Approximant(fit.series);
}

Result<Approximant> FitSite(const Shape& shape, const SiteRanges& ranges, const std::string& key,
                            const std::string& site, const PolynomialOptions& options) {
  const ExactSite exact = ExactSiteOf(shape, key);
  if (exact.order == 0) return FitActivation(shape, ranges, site, options);
  if (key == "divisor_inverse") {
    if (options.divisor_from_zero) return FitFromZero(ranges, site, exact.shift, options);
    PV_ASSIGN_OR_RETURN(const Range range,
                        Stretched(ranges, site, options.margin, options.divisor_ratio));
    return FitInverse(range, exact.shift, exact.order, options.divisor_degree,
                      options.divisor_inner, options.divisor_reach);
  }
  PV_ASSIGN_OR_RETURN(const Range range,
                      Stretched(ranges, site, options.margin, options.variance_ratio));
  return FitInverse(range, exact.shift, exact.order,
                    key == "norm2" ? options.norm2_degree : options.norm1_degree);
}

Result<LayerPolynomials> FitLayer(const Shape& shape, const SiteRanges& ranges, int layer,
                                  const PolynomialOptions& options) {
  LayerPolynomials out = UnfittedPolynomials(shape);
  Status status;
  VisitPolynomials(out, [&](const std::string& key, const char* name, Approximant& p) {
    const std::string site = Site(layer, name);
    if (!status.ok() || (key == "divisor_inverse" && !ranges.count(site))) return;
    auto fit = FitSite(shape, ranges, key, site, options);
    fit.ok() ? (void)(p = *std::move(fit)) : (void)(status = fit.error());
  });
  PV_RETURN_IF_ERROR(status);
  return out;
}

// Whether a site's values are [rows, heads, positions, ..] and not [rows, positions, ..].
bool IsByHead(const std::string& site) {
  for (const char* name : {"scores", "powers", "weights", "divisor", "divisor inverse"})
    if (site.ends_with(std::string("attention / ") + name)) return true;
  return false;
}

// The values at positions that are not in `without`.
Range RangeOf(const std::string& site, const Tensor& values, const Tensor& without) {
  constexpr double kFar = std::numeric_limits<double>::infinity();
  const auto range = [](const Tensor& lo, const Tensor& hi, std::int64_t count) {
    return Range{lo.item<double>(), hi.item<double>(), static_cast<std::uint64_t>(count)};
  };
  if (!without.any().item<bool>()) {
    const auto [lo, hi] = torch::aminmax(values);
    return range(lo, hi, values.numel());
  }
  const std::int64_t rows = without.size(0), positions = without.size(1);
  const std::int64_t heads = IsByHead(site) ? values.size(1) : 1;
  const Tensor parts = values.reshape({rows, heads, positions, -1});
  const Tensor drop = without.view({rows, 1, positions, 1});
  const std::int64_t kept =
      without.logical_not().sum().item<std::int64_t>() * heads * parts.size(3);
  if (kept == 0) return {};
  return range(parts.masked_fill(drop, kFar).amin(), parts.masked_fill(drop, -kFar).amax(), kept);
}

// Of a row, behind the constant prefix.
std::int64_t PositionsOf(const Transformer& model, const Batch& batch) {
  return batch.inputs.size(1) - model.shape().prefix;
}

// Every polynomial by the name of its inputs.
std::map<std::string, const Approximant*> PolynomialsBySite(
    const std::vector<LayerPolynomials>& fits) {
  std::map<std::string, const Approximant*> out;
  for (std::size_t i = 0; i < fits.size(); ++i)
    VisitPolynomials(fits[i], [&](const char*, const char* site, const Approximant& p) {
      out[Site(static_cast<int>(i), site)] = &p;
    });
  return out;
}

}  // namespace

ExactSite ExactSiteOf(const Shape& shape, const std::string& key) {
  if (key == "activation") return {};
  if (key == "divisor_inverse") return {1, shape.attention_eps};
  return {key == "norm2" && shape.bilinear() ? 1.0 : 0.5, shape.norm_eps};
}

LayerPolynomials UnfittedPolynomials(const Shape& shape) {
  LayerPolynomials out;
  out.divisor_inverse = {0, 1, {1}};
  if (!shape.bilinear()) out.activation.emplace();
  if (shape.qk_norm) out.query_root.emplace(), out.key_root.emplace();
  return out;
}

Tensor MarkedPositions(const std::string& site, const Tensor& marked) {
  const bool heads = IsByHead(site);  // [rows, heads, positions], perhaps with a last 1
  const std::int64_t positions = marked.size(heads ? 2 : 1);
  return marked.reshape({marked.size(0), heads ? marked.size(1) : 1, positions, -1}).any(3).any(1);
}

double Observation::LeastMargin(const std::vector<LayerPolynomials>& polynomials) const {
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [site, p] : PolynomialsBySite(polynomials))
    if (const auto it = inputs.find(site); it != inputs.end())
      least = std::min(least, approx::RatioMargin(it->second, p->a, p->b));
  return std::isfinite(least) ? least : 1;
}

Status Observation::CheckFinite() const {
  if (not_finite.empty()) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "{}: a value is NaN or infinite although no input before it left its interval",
                   not_finite);
}

std::string Observation::Sites() const {
  std::string text;
  for (const auto& [site, escapes] : first.by_site)
    text += fmt::format("{}{} ({}, worst {:.3g})", text.empty() ? "" : ", ", site, escapes.count,
                        escapes.worst_ratio);
  return text;
}

void Observation::Merge(const Observation& other) {
  for (const auto& [site, range] : other.ranges) ranges[site].Merge(range);
  for (const auto& [site, range] : other.inputs) inputs[site].Merge(range);
  first.Merge(other.first);
  out_of_range += other.out_of_range;
  left_out += other.left_out;
  if (not_finite.empty()) not_finite = other.not_finite;
}

Observer::Observer(const std::vector<LayerPolynomials>* polynomials, bool causal)
    : causal_(causal) {
  if (polynomials) polynomials_ = PolynomialsBySite(*polynomials);
}

Recorder Observer::NextBatch(std::int64_t rows, std::int64_t positions) {
  FinishBatch();
  touched_ = torch::zeros({rows, positions}, torch::kBool);
  outside_ = torch::zeros({rows, positions}, torch::kBool);
  return [this](const std::string& site, const Tensor& values) { Record(site, values); };
}

Observation Observer::Take() {
  FinishBatch();
  return std::exchange(seen_, {});
}

void Observer::FinishBatch() {
  if (!touched_.defined()) return;
  seen_.first.positions += static_cast<std::uint64_t>(touched_.numel());
  seen_.out_of_range += static_cast<std::uint64_t>(outside_.sum().item<std::int64_t>());
  seen_.left_out += static_cast<std::uint64_t>(touched_.sum().item<std::int64_t>());
  touched_ = outside_ = Tensor();
}

void Observer::Record(const std::string& site, const Tensor& values) {
  touched_ = touched_.to(values.device());
  outside_ = outside_.to(values.device());
  Range range = RangeOf(site, values, touched_);
  if (range.count > 0 && !range.finite()) {
    DropOverflow(site, values);
    range = RangeOf(site, values, touched_);
  }
  if (const auto it = polynomials_.find(site); it != polynomials_.end()) {
    seen_.inputs[site].Merge(range);
    if (MarkOutside(site, values, *it->second, range)) range = RangeOf(site, values, touched_);
  }
  seen_.ranges[site].Merge(range);
}

// read: of the untouched values. Returns whether any value lies outside.
bool Observer::MarkOutside(const std::string& site, const Tensor& values, const Approximant& p,
                           const Range& read) {
  seen_.first.evaluations += static_cast<std::uint64_t>(values.numel());
  // Neither inside nor comparable: values that are no numbers count too.
  const Tensor outside = ((values >= p.a) & (values <= p.b)).logical_not();
  if (!outside.any().item<bool>()) return false;
  const Tensor where = MarkedPositions(site, outside);
  outside_.logical_or_(where);
  const Tensor fresh = where & touched_.logical_not();
  if (const auto count = static_cast<std::uint64_t>(fresh.sum().item<std::int64_t>()); count > 0)
    seen_.first.Add(
        site, count,
        std::max(approx::EscapeRatio(read.lo, p.a, p.b), approx::EscapeRatio(read.hi, p.a, p.b)));
  touched_.logical_or_(causal_ ? where.cumsum(1) > 0 : where.any(1, true));
  return true;
}

// Sums over keys multiply what a position must not read by zero: an overflow behind an input
// outside makes even earlier positions of its text NaN. Such texts are touched as a whole; where no
// input was outside the values stay, and the site is named.
void Observer::DropOverflow(const std::string& site, const Tensor& values) {
  const Tensor bad = MarkedPositions(site, values.isfinite().logical_not()).any(1, true);
  const Tensor explained = touched_.any(1, true);
  if ((bad & explained.logical_not()).any().item<bool>() && seen_.not_finite.empty())
    seen_.not_finite = site;
  touched_.logical_or_(bad & explained);
}

Observation Observe(const Transformer& model, const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  Observer observer(model.polynomials ? &*model.polynomials : nullptr, model.shape().causal);
  for (const Batch& batch : batches)
    model.Forward(batch.inputs, {},
                  observer.NextBatch(batch.inputs.size(0), PositionsOf(model, batch)));
  return observer.Take();
}

SiteRanges ObserveRanges(const Transformer& model, const std::vector<Batch>& batches) {
  return Observe(model, batches).ranges;
}

Result<std::vector<LayerPolynomials>> FitPolynomials(const Shape& shape, const SiteRanges& ranges,
                                                     const PolynomialOptions& options) {
  std::vector<LayerPolynomials> out;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    PV_ASSIGN_OR_RETURN(LayerPolynomials fit, FitLayer(shape, ranges, layer, options));
    out.push_back(std::move(fit));
  }
  return out;
}

void EscapeReport::Add(const std::string& site, std::uint64_t count, double ratio) {
  SiteEscapes& here = by_site[site];
  escapes += count;
  here.count += count;
  here.worst_ratio = std::max(here.worst_ratio, ratio);
  worst_ratio = std::max(worst_ratio, ratio);
}

void EscapeReport::Merge(const EscapeReport& other) {
  positions += other.positions;
  evaluations += other.evaluations;
  for (const auto& [site, more] : other.by_site) Add(site, more.count, more.worst_ratio);
}

Recorder EscapeCounter(const std::vector<LayerPolynomials>& polynomials, EscapeReport& report,
                       EscapeMark mark) {
  return [sites = PolynomialsBySite(polynomials), &report, mark = std::move(mark)](
             const std::string& site, const Tensor& values) {
    const auto it = sites.find(site);
    if (it == sites.end()) return;
    const Approximant& p = *it->second;
    // Neither inside nor comparable: values that are no numbers count too.
    const Tensor outside = ((values >= p.a) & (values <= p.b)).logical_not();
    const auto escapes = static_cast<std::uint64_t>(outside.sum().item<std::int64_t>());
    report.evaluations += static_cast<std::uint64_t>(values.numel());
    if (escapes == 0) return;
    const auto [lo, hi] = torch::aminmax(values);
    report.Add(site, escapes,
               std::max(approx::EscapeRatio(lo.item<double>(), p.a, p.b),
                        approx::EscapeRatio(hi.item<double>(), p.a, p.b)));
    if (mark) mark(site, outside);
  };
}

Tensor ForwardCountingEscapes(const Transformer& model, const Batch& batch, EscapeReport& report,
                              const EscapeMark& mark) {
  PV_CHECK(model.polynomials.has_value(), "escapes of a model without polynomials");
  torch::NoGradGuard no_grad;
  report.positions += static_cast<std::uint64_t>(batch.inputs.size(0) * PositionsOf(model, batch));
  return model
      .Forward(batch.inputs, {}, EscapeCounter(*model.polynomials, report, mark),
               Detail::kIntervals)
      .hidden;
}

EscapeReport CountEscapes(const Transformer& model, const std::vector<Batch>& batches) {
  EscapeReport report;
  for (const Batch& batch : batches) ForwardCountingEscapes(model, batch, report);
  return report;
}

Batch DrawTrainingBatch(const TrainConfig& config, const Dataset& data, std::uint64_t seed,
                        std::int64_t step) {
  Batch batch =
      DrawBatch(data, config.source_weights, config.batch, config.shape.context, seed, step);
  if (config.polynomial && config.polynomial->random_rows > 0)
    ReplaceByRandomRows(batch, config.polynomial->random_rows, config.shape.vocab_size, seed, step);
  return batch;
}

std::vector<Batch> CalibrationBatches(const TrainConfig& config, const Dataset& data, int count) {
  std::vector<Batch> batches;
  for (int i = 0; i < count; ++i)
    batches.push_back(DrawTrainingBatch(config, data, config.seed + 7919, 1'000'000 + i));
  return batches;
}

std::vector<Batch> ExportBatches(const TrainConfig& config, const Dataset& data) {
  constexpr int kCount = 100;
  std::vector<Batch> batches;
  for (int i = 0; i < kCount; ++i)
    batches.push_back(DrawBatch(data, config.source_weights, config.batch, config.shape.context,
                                config.seed + 104729, 2'000'000 + i));
  return batches;
}

std::vector<Batch> HeldoutBatches(const Dataset& data, int rows, int context, std::int64_t skip) {
  std::vector<Batch> batches;
  for (const auto& [source, stream] : data.heldout)
    for (Batch& batch : SequentialBatches(stream, rows, context, skip))
      batches.push_back(std::move(batch));
  return batches;
}

}  // namespace polyveil::train
