#include "model/block_calibration.h"

#include <algorithm>
#include <cmath>

#include "approx/choose.h"

namespace polyveil::model {
namespace {

Result<Approximant> FitSeries(approx::Target target, const approx::Range& seen, double shift,
                              int degree, double margin) {
  const approx::Range range = approx::WithRatioMargin(seen, margin);
  PV_ASSIGN_OR_RETURN(auto fit, approx::SeriesOfDegree(target, range.lo, range.hi, shift, degree));
  return fit.polynomial;
}

Approximant FitActivation(BlockActivation activation, const approx::Range& seen,
                          const BlockFit& fit) {
  const double size = fit.margin * std::max(std::abs(seen.lo), std::abs(seen.hi));
  return approx::Interpolate([&](double x) { return Activate(activation, x); }, -size, size,
                             fit.activation_degree);
}

// What the block's exact functions see of the texts.
Result<BlockReference> Observe(const Block& block, const BlockTexts& texts) {
  BlockReference reference(block, Evaluation::kExact);
  for (const auto& text : texts) PV_RETURN_IF_ERROR(reference.Read(text));
  // Whatever is no number inside a block reaches its result.
  const double largest = reference.ranges().bounds.residual_out;
  if (!std::isfinite(largest))
    return MakeError(ErrorCode::kOutOfRange, "calibration: a block's result holds {}", largest);
  return reference;
}

}  // namespace

std::vector<int> ChannelExponents(double bound, std::span<const double> largest) {
  std::vector<int> exponents;
  for (const double size : largest) {
    int exponent = 0;
    while (exponent < kMaxChannelExponent && std::ldexp(size, exponent + 2) <= bound) ++exponent;
    exponents.push_back(exponent);
  }
  constexpr int kLeastMedian = 3;
  std::vector<int> sorted = exponents;
  std::ranges::sort(sorted);
  if (sorted.empty() || sorted[sorted.size() / 2] < kLeastMedian) exponents.clear();
  return exponents;
}

Result<LayerConfig> CalibrateBlock(const Block& block, const BlockTexts& texts,
                                   const BlockFit& fit) {
  Block working = block;
  LayerConfig& forms = working.forms;
  const BlockShape& shape = block.shape;
  const auto heads = static_cast<std::size_t>(shape.n_heads);
  forms.shift.assign(heads, 0);
  forms.kappa.assign(heads, 1);
  PV_ASSIGN_OR_RETURN(const BlockReference scores, Observe(working, texts));
  for (std::size_t h = 0; h < heads; ++h)
    forms.shift[h] = std::max(2.0, 2 * scores.ranges().score[h]);
  PV_ASSIGN_OR_RETURN(const BlockReference powers, Observe(working, texts));
  const int tokens = std::max(1, powers.ranges().tokens);
  for (std::size_t h = 0; h < heads; ++h)
    forms.kappa[h] = std::exp(powers.ranges().log_mean[h] / tokens);
  PV_ASSIGN_OR_RETURN(const BlockReference seen, Observe(working, texts));

  const auto range = [&](const char* site) { return seen.escapes().at(site).seen; };
  forms.bounds = seen.ranges().bounds;
  if (!shape.post_norm) {
    forms.bounds.mid_exponents =
        ChannelExponents(forms.bounds.residual_mid, seen.ranges().mid_channels);
    forms.bounds.out_exponents =
        ChannelExponents(forms.bounds.residual_out, seen.ranges().out_channels);
  }
  PV_ASSIGN_OR_RETURN(forms.norm1,
                      FitSeries(approx::Target::kInverseRoot, range("attention / variance"),
                                shape.norm_eps, fit.norm_degree, fit.margin));
  forms.norm2 = forms.norm1;
  if (!shape.parallel) {
    const auto target = shape.bilinear() ? approx::Target::kInverse : approx::Target::kInverseRoot;
    PV_ASSIGN_OR_RETURN(forms.norm2, FitSeries(target, range("feed-forward / variance"),
                                               shape.norm_eps, fit.norm_degree, fit.margin));
  }
  const auto observed = [&](const char* site) -> ObservedInterval {
    return {range(site).lo, range(site).hi};
  };
  forms.norm1_seen = forms.norm2_seen = observed("attention / variance");
  if (!shape.parallel) forms.norm2_seen = observed("feed-forward / variance");
  forms.divisor_inverse = Approximant(0, 1, {1});  // where nothing is divided
  if (forms.attention.divides()) {
    PV_ASSIGN_OR_RETURN(forms.divisor_inverse,
                        FitSeries(approx::Target::kInverse, range("attention / divisor"),
                                  shape.attention_eps, fit.divisor_degree, fit.margin));
    forms.divisor_seen = observed("attention / divisor");
  }
  if (!shape.bilinear())
    forms.activation = FitActivation(shape.activation, range("feed-forward / hidden"), fit);
  return forms;
}

}  // namespace polyveil::model
