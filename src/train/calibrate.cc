#include "train/calibrate.h"

#include <algorithm>
#include <cmath>

#include "approx/remez.h"

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

// Minimax in relative error of 1 / (x + eps)^order, order 1 or 1/2.
Result<Approximant> FitInverse(const Range& range, double eps, double order, int degree) {
  const auto f = [=](double x) { return std::pow(x + eps, -order); };
  const auto weight = [=](double x) { return std::pow(x + eps, order); };
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit,
                      approx::Minimax(f, weight, range.lo, range.hi, degree));
  return Approximant(fit.series);
}

Result<Approximant> FitActivation(const SiteRanges& ranges, const std::string& site,
                                  const PolynomialOptions& options) {
  const auto it = ranges.find(site);
  if (it == ranges.end()) return MakeError(ErrorCode::kOutOfRange, "{}: never seen", site);
  const double bound = options.margin * std::max(std::abs(it->second.lo), std::abs(it->second.hi));
  const auto gelu = [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); };
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit, approx::Minimax(
                                                        gelu, [](double) { return 1.0; }, -bound,
                                                        bound, options.activation_degree));
  return Approximant(fit.series);
}

Result<LayerPolynomials> FitLayer(const Shape& shape, const SiteRanges& ranges, int layer,
                                  const PolynomialOptions& options) {
  const bool bilinear = shape.ffn == model::FeedForwardKind::kBilinear;
  const auto variance = [&](const char* site) {
    return Stretched(ranges, Site(layer, site), options.margin, options.variance_ratio);
  };
  LayerPolynomials out;
  PV_ASSIGN_OR_RETURN(const Range norm1, variance("attention / variance"));
  PV_ASSIGN_OR_RETURN(out.norm1, FitInverse(norm1, shape.norm_eps, 0.5, options.norm1_degree));
  if (ranges.count(Site(layer, "attention / divisor"))) {
    PV_ASSIGN_OR_RETURN(const Range divisor, Stretched(ranges, Site(layer, "attention / divisor"),
                                                       options.margin, options.divisor_ratio));
    PV_ASSIGN_OR_RETURN(out.divisor_inverse,
                        FitInverse(divisor, shape.attention_eps, 1, options.divisor_degree));
  } else {
    out.divisor_inverse = {0, 1, {1}};  // pointwise: nothing to divide by
  }
  if (shape.qk_norm) {
    for (auto [site, root] : {std::pair{"attention / query variance", &out.query_root},
                              std::pair{"attention / key variance", &out.key_root}}) {
      PV_ASSIGN_OR_RETURN(const Range seen, variance(site));
      PV_ASSIGN_OR_RETURN(*root, FitInverse(seen, shape.norm_eps, 0.5, options.norm1_degree));
    }
  }
  PV_ASSIGN_OR_RETURN(const Range norm2, variance("feed-forward / variance"));
  PV_ASSIGN_OR_RETURN(out.norm2,
                      FitInverse(norm2, shape.norm_eps, bilinear ? 1 : 0.5, options.norm2_degree));
  if (!bilinear) {
    PV_ASSIGN_OR_RETURN(auto activation,
                        FitActivation(ranges, Site(layer, "feed-forward / hidden"), options));
    out.activation = std::move(activation);
  }
  return out;
}

void Merge(Range& range, const Tensor& values) {
  Range seen;
  const auto [lo, hi] = torch::aminmax(values);
  seen.lo = lo.item<double>();
  seen.hi = hi.item<double>();
  seen.count = static_cast<std::uint64_t>(values.numel());
  range.Merge(seen);
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

SiteRanges ObserveRanges(const Transformer& model, const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  SiteRanges ranges;
  for (const Batch& batch : batches) model.Forward(batch.inputs, {}, RangeObserver(ranges));
  return ranges;
}

Recorder RangeObserver(SiteRanges& ranges) {
  return [&](const std::string& site, const Tensor& values) { Merge(ranges[site], values); };
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
    SiteEscapes& here = report.by_site[site];
    report.escapes += escapes;
    here.count += escapes;
    const auto [lo, hi] = torch::aminmax(values);
    for (const double x : {lo.item<double>(), hi.item<double>()})
      here.worst_ratio = std::max(here.worst_ratio, approx::EscapeRatio(x, p.a, p.b));
    report.worst_ratio = std::max(report.worst_ratio, here.worst_ratio);
    if (mark) mark(site, outside);
  };
}

Tensor ForwardCountingEscapes(const Transformer& model, const Batch& batch, EscapeReport& report,
                              const EscapeMark& mark) {
  PV_CHECK(model.polynomials.has_value(), "escapes of a model without polynomials");
  torch::NoGradGuard no_grad;
  report.positions += static_cast<std::uint64_t>(batch.inputs.numel());
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

std::vector<Batch> HeldoutBatches(const Dataset& data, int rows, int context, std::int64_t skip) {
  std::vector<Batch> batches;
  for (const auto& [source, stream] : data.heldout)
    for (Batch& batch : SequentialBatches(stream, rows, context, skip))
      batches.push_back(std::move(batch));
  return batches;
}

}  // namespace polyveil::train
