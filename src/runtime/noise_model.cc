#include "runtime/noise_model.h"

#include <algorithm>
#include <cmath>

namespace polyveil::runtime {

namespace {
constexpr double kErrorSigma = 3.2;
// Bits of a bootstrap's error that the required worst slot (13 bits) allows: sigma = 2^-13 / 4.5,
// the ratio of the largest of 2^15 Gaussian samples to sigma. Measured bootstraps are better.
constexpr double kBootstrapWorstBits = 13, kWorstToSigma = 4.5;
}  // namespace

NoiseModel NoiseModel::ForParameters(const ckks::Parameters& params) {
  const double n = params.n(), scale = params.scale(params.working_level());
  // A slot sums n coefficients with unit roots: sigma_slot = sqrt(n) sigma_coefficient.
  const double root = std::sqrt(n);
  const double rounding =
      std::sqrt((1 + 2 * n / 3) / 12);  // uniform rounding of both parts, one times s
  NoiseModel noise;
  noise.fresh = root * kErrorSigma / scale;
  noise.encode = root * std::sqrt(1.0 / 12) / scale;
  noise.rescale = root * rounding / scale;
  // The key's error: digits (each below about P) times sigma, over P, is below the rounding by a
  // factor sqrt(digits) sigma sqrt(n) / sqrt(n).
  const double digits = params.digits(params.max_level());
  noise.key_switch = root * std::hypot(rounding, std::sqrt(digits * n / 12) * kErrorSigma) / scale;
  noise.bootstrap = std::exp2(-kBootstrapWorstBits) / kWorstToSigma;
  return noise;
}

}  // namespace polyveil::runtime
