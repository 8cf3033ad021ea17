#include "train/calibrate.h"

#include <algorithm>
#include <cmath>

#include "approx/remez.h"

namespace polyveil::train {
namespace {

using approx::Chebyshev;
using approx::Range;
using torch::Tensor;

std::string Site(int layer, const char* rest) { return fmt::format("layer {} / {}", layer, rest); }

Result<Range> Stretched(const SiteRanges& ranges, const std::string& site, double margin) {
  const auto it = ranges.find(site);
  if (it == ranges.end() || !(it->second.lo > 0) || !std::isfinite(it->second.hi))
    return MakeError(ErrorCode::kOutOfRange, "{}: range [{}, {}] is not positive and finite", site,
                     it == ranges.end() ? 0 : it->second.lo,
                     it == ranges.end() ? 0 : it->second.hi);
  return approx::WithRatioMargin(it->second, margin);
}

// Minimax in relative error of 1 / (x + eps)^order, order 1 or 1/2.
Result<Chebyshev> FitInverse(const Range& range, double eps, double order, int degree) {
  const auto f = [=](double x) { return std::pow(x + eps, -order); };
  const auto weight = [=](double x) { return std::pow(x + eps, order); };
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit,
                      approx::Minimax(f, weight, range.lo, range.hi, degree));
  return fit.series;
}

Result<Chebyshev> FitActivation(const SiteRanges& ranges, const std::string& site,
                                const PolynomialOptions& options) {
  const auto it = ranges.find(site);
  if (it == ranges.end()) return MakeError(ErrorCode::kOutOfRange, "{}: never seen", site);
  const double bound = options.margin * std::max(std::abs(it->second.lo), std::abs(it->second.hi));
  const auto gelu = [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); };
  PV_ASSIGN_OR_RETURN(const approx::MinimaxFit fit, approx::Minimax(
                                                        gelu, [](double) { return 1.0; }, -bound,
                                                        bound, options.activation_degree));
  return fit.series;
}

Result<LayerPolynomials> FitLayer(const Shape& shape, const SiteRanges& ranges, int layer,
                                  const PolynomialOptions& options) {
  const bool bilinear = shape.ffn == model::FeedForwardKind::kBilinear;
  LayerPolynomials out;
  PV_ASSIGN_OR_RETURN(const Range norm1,
                      Stretched(ranges, Site(layer, "attention / variance"), options.margin));
  PV_ASSIGN_OR_RETURN(out.norm1, FitInverse(norm1, shape.norm_eps, 0.5, options.norm1_degree));
  PV_ASSIGN_OR_RETURN(const Range divisor,
                      Stretched(ranges, Site(layer, "attention / divisor"), options.margin));
  PV_ASSIGN_OR_RETURN(out.divisor_inverse,
                      FitInverse(divisor, shape.attention_eps, 1, options.divisor_degree));
  PV_ASSIGN_OR_RETURN(const Range norm2,
                      Stretched(ranges, Site(layer, "feed-forward / variance"), options.margin));
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

const Chebyshev* PolynomialAt(const std::vector<LayerPolynomials>& fits, const std::string& site) {
  for (std::size_t i = 0; i < fits.size(); ++i) {
    const int layer = static_cast<int>(i);
    if (site == Site(layer, "attention / variance")) return &fits[i].norm1;
    if (site == Site(layer, "attention / divisor")) return &fits[i].divisor_inverse;
    if (site == Site(layer, "feed-forward / variance")) return &fits[i].norm2;
    if (fits[i].activation && site == Site(layer, "feed-forward / hidden"))
      return &*fits[i].activation;
  }
  return nullptr;
}

}  // namespace

SiteRanges ObserveRanges(const Transformer& model, const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  SiteRanges ranges;
  for (const Batch& batch : batches)
    model.Forward(batch.inputs, {}, [&](const std::string& site, const Tensor& values) {
      Merge(ranges[site], values);
    });
  return ranges;
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

EscapeReport CountEscapes(const Transformer& model, const std::vector<Batch>& batches) {
  PV_CHECK(model.polynomials.has_value(), "escapes of a model without polynomials");
  torch::NoGradGuard no_grad;
  EscapeReport report;
  const auto count = [&](const std::string& site, const Tensor& values) {
    const Chebyshev* p = PolynomialAt(*model.polynomials, site);
    if (!p) return;
    const auto outside = ((values < p->a) | (values > p->b)).sum().item<std::int64_t>();
    report.evaluations += static_cast<std::uint64_t>(values.numel());
    if (outside == 0) return;
    report.escapes += static_cast<std::uint64_t>(outside);
    report.by_site[site] += static_cast<std::uint64_t>(outside);
    const auto [lo, hi] = torch::aminmax(values);
    for (const double x : {lo.item<double>(), hi.item<double>()})
      report.worst_ratio = std::max(report.worst_ratio, approx::EscapeRatio(x, p->a, p->b));
  };
  for (const Batch& batch : batches) {
    report.positions += static_cast<std::uint64_t>(batch.inputs.numel());
    model.Forward(batch.inputs, {}, count);
  }
  return report;
}

}  // namespace polyveil::train
