#include "runtime/result_noise.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "compile/units.h"
#include "runtime/noise_model.h"

namespace polyveil::runtime {
namespace {

// Where an ordinary input lies. The interval's end would bring sqrt(b / a) more of a relative
// error.
double Middle(const approx::Approximant& p) { return std::sqrt(p.a * p.b); }

// The residual stream's noise as it passes the layers.
class ResidualNoise {
 public:
  ResidualNoise(const model::ModelConfig& config, const ckks::Parameters& params)
      : config_(config),
        units_(compile::MakeResidualUnits(config)),
        noise_(NoiseModel::ForParameters(params)),
        features_(config.d_model),
        rows_(params.slots() / features_),
        fresh_(std::hypot(noise_.bootstrap, noise_.rescale)),
        noise_now_{noise_.fresh, noise_.fresh} {}

  void PassLayer(int layer) {
    Attention(layer);
    FeedForward(layer);
  }
  const ResultNoise& now() const { return noise_now_; }

 private:
  double InUnit(double bound, double unit) const {
    return bound > 0 ? bound * std::max(1.0, config_.calibration.margin) / unit : 1;
  }
  // Rotations of a sum over `terms` slots, each with a key switch of its own.
  double Sum(double terms) const { return noise_.key_switch * std::sqrt(terms); }

  // The projection sums over all copies: what reaches every copy alike is the heads' noise, real
  // but for the divisor's bootstrap and the numerator's last key switch.
  void Attention(int layer) {
    const model::LayerConfig& c = config_.layers[layer];
    const double before = units_.LayerInput(layer), unit = units_.middle[layer];
    const double added = InUnit(c.bounds.attn_out, unit);
    const approx::Approximant& inverse = c.divisor_inverse;
    double heads = 0;
    if (c.attention.divides()) {
      const double gain = c.bounds.head_out > 0 ? added / InUnit(c.bounds.head_out, 1) : 1;
      heads = std::hypot(added * noise_.bootstrap * inverse.b / Middle(inverse),
                         gain * noise_.key_switch / Middle(inverse));
    }
    const double own = std::hypot(Sum(features_), fresh_);
    noise_now_.copies = std::hypot(noise_now_.copies * before / unit, own);
    noise_now_.imaginary = std::hypot(noise_now_.imaginary * before / unit, own, heads);
  }

  // The sum over rows is real but for a conjugation's key switch; the norm's inverse is not: its
  // argument v = |x|^2 / d takes 2 n / (unit sqrt(d v)) of a noise n in x relative to itself.
  void FeedForward(int layer) {
    const model::LayerConfig& c = config_.layers[layer];
    const double before = units_.middle[layer], unit = units_.output[layer];
    const approx::Approximant& norm = c.norm2;
    const double added = InUnit(c.bounds.ffn_out, unit);
    const double relative = 2 * before / std::sqrt(features_ * Middle(norm));
    const double scale = std::max(std::abs(norm(norm.a)), std::abs(norm(norm.b)));
    const double own = std::hypot(std::numbers::sqrt2 * Sum(rows_) * scale, fresh_);
    for (double* n : {&noise_now_.copies, &noise_now_.imaginary})
      *n = std::hypot(*n * before / unit, *n * relative * added, own);
  }

  const model::ModelConfig& config_;
  const compile::ResidualUnits units_;
  const NoiseModel noise_;
  const double features_, rows_;  // of a result, of the feed-forward's sum
  const double fresh_;            // that each residual may bring
  ResultNoise noise_now_;
};

}  // namespace

ResultNoise PredictResultNoise(const model::ModelConfig& config, const ckks::Parameters& params) {
  ResidualNoise noise(config, params);
  for (int layer = 0; layer < config.n_layers; ++layer) noise.PassLayer(layer);
  return noise.now();
}

}  // namespace polyveil::runtime
