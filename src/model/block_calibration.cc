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

// What the block's exact functions see of the texts.
Result<BlockRanges> Observe(const Block& block, const BlockTexts& texts) {
  BlockReference reference(block, Evaluation::kExact);
  for (const auto& text : texts) {
    reference.Reset();
    for (const auto& token : text) PV_RETURN_IF_ERROR(reference.Step(token));
  }
  // Whatever is no number inside a block reaches its result.
  const double largest = reference.ranges().bounds.residual_out;
  if (!std::isfinite(largest))
    return MakeError(ErrorCode::kOutOfRange, "calibration: a block's result holds {}", largest);
  return reference.ranges();
}

}  // namespace

Result<LayerConfig> CalibrateBlock(const Block& block, const BlockTexts& texts,
                                   const BlockFit& fit) {
  Block working = block;
  const auto heads = static_cast<std::size_t>(block.shape.n_heads);
  working.forms.shift.assign(heads, 0);
  working.forms.kappa.assign(heads, 1);
  PV_ASSIGN_OR_RETURN(const BlockRanges scores, Observe(working, texts));
  for (std::size_t h = 0; h < heads; ++h)
    working.forms.shift[h] = std::max(2.0, 2 * scores.score[h]);
  PV_ASSIGN_OR_RETURN(const BlockRanges powers, Observe(working, texts));
  for (std::size_t h = 0; h < heads; ++h)
    working.forms.kappa[h] = std::exp(powers.log_mean[h] / std::max(1, powers.tokens));
  PV_ASSIGN_OR_RETURN(const BlockRanges ranges, Observe(working, texts));

  LayerConfig forms = working.forms;
  forms.bounds = ranges.bounds;
  PV_ASSIGN_OR_RETURN(forms.norm1, FitSeries(approx::Target::kInverseRoot, ranges.norm1,
                                             block.shape.norm_eps, fit.norm_degree, fit.margin));
  forms.norm2 = forms.norm1;
  if (!block.shape.parallel) {
    PV_ASSIGN_OR_RETURN(forms.norm2, FitSeries(approx::Target::kInverseRoot, ranges.norm2,
                                               block.shape.norm_eps, fit.norm_degree, fit.margin));
  }
  PV_ASSIGN_OR_RETURN(forms.divisor_inverse,
                      FitSeries(approx::Target::kInverse, ranges.divisor, block.shape.attention_eps,
                                fit.divisor_degree, fit.margin));
  const double size =
      fit.margin * std::max(std::abs(ranges.activation.lo), std::abs(ranges.activation.hi));
  forms.activation =
      approx::Interpolate([&](double x) { return Activate(block.shape.activation, x); }, -size,
                          size, fit.activation_degree);
  return forms;
}

}  // namespace polyveil::model
