// Penalties on the inputs of non-polynomials.
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "approx/approximant.h"
#include "train/train_config.h"

namespace polyveil::train {

// Mean and worst excess, both squared and weighted; the worst is taken per site.
inline torch::Tensor Hinge(const torch::Tensor& excess, const HingeOptions& hinge) {
  torch::Tensor out = hinge.weight * (excess * excess).mean();
  if (hinge.peak_weight > 0) {
    const torch::Tensor peak = excess.amax();
    out = out + hinge.peak_weight * peak * peak;
  }
  return out;
}

// The hinges of one forward pass, added up.
class Penalties {
 public:
  Penalties(const RangeOptions& range, const torch::TensorOptions& options)
      : range_(range), total_(torch::zeros({}, options)) {}

  // |log x - centre| beyond the window, or log x - centre where the hinge is one-sided. fit: the
  // polynomial that takes x, or null while the exact function does; an interval from 0 has its high
  // end alone.
  void AddLog(const torch::Tensor& x, const torch::Tensor& centre, const approx::Approximant* fit,
              const HingeOptions& hinge) {
    if (!On(hinge)) return;
    if (!fit || range_.interval_margin == 0) {
      total_ = total_ + Hinge(LogExcess(x, centre, hinge.window, hinge.one_sided), hinge);
      return;
    }
    const double high = fit->b / hinge.reach;
    if (fit->a <= 0) {
      const torch::Tensor end =
          torch::full({1}, std::log(high / range_.interval_margin), x.options());
      total_ = total_ + Hinge(LogExcess(x, end, 1, true), hinge);
      return;
    }
    const torch::Tensor middle = torch::full({1}, 0.5 * std::log(fit->a * high), x.options());
    const double window = std::max(1.0, std::sqrt(high / fit->a) / range_.interval_margin);
    total_ = total_ + Hinge(LogExcess(x, middle, window, false), hinge);
  }

  // |x| beyond the window.
  void AddSize(const torch::Tensor& x, const HingeOptions& hinge) {
    if (!On(hinge)) return;
    const auto [lo, hi] = torch::aminmax(x.detach());
    const double largest = std::max(-lo.item<double>(), hi.item<double>());
    if (largest <= hinge.window) return;  // nothing to pay and no gradient: the usual case
    total_ = total_ + Hinge(torch::relu(x.abs() - hinge.window), hinge);
  }

  const RangeOptions& range() const { return range_; }
  const torch::Tensor& total() const { return total_; }

 private:
  static bool On(const HingeOptions& hinge) { return hinge.weight > 0 || hinge.peak_weight > 0; }
  static torch::Tensor LogExcess(const torch::Tensor& x, const torch::Tensor& centre, double window,
                                 bool one_sided) {
    const torch::Tensor distance = (x + 1e-12).log() - centre;
    return torch::relu((one_sided ? distance : distance.abs()) - std::log(window));
  }

  RangeOptions range_;
  torch::Tensor total_;
};

}  // namespace polyveil::train
