#include "runtime/noise_model.h"

#include <algorithm>
#include <numbers>

#include "circuits/bootstrap_noise.h"
#include "ckks/noise_estimator.h"

namespace polyveil::runtime {
namespace {
// Parameters without EvalMod levels: no program bootstraps with them, and one that did would show.
constexpr double kNoBootstrap = 1;
}  // namespace

NoiseModel NoiseModel::ForParameters(const ckks::Parameters& params) {
  const ckks::NoiseEstimator estimator(params);
  const int top = params.working_level();
  const double scale = params.scale(top);
  NoiseModel noise;
  noise.fresh = estimator.Encrypt(scale);
  noise.encode = estimator.Encode(scale);
  noise.rescale = estimator.Rounding(scale);
  for (int level = 1; level <= top; ++level)
    noise.key_switch = std::max(noise.key_switch, estimator.KeySwitch(level, params.scale(level)));
  // A bootstrap's own error, on real slots: what the value carried before is the simulator's part.
  const auto bootstrap = circuits::EstimateBootstrap(estimator, {}, 0);
  noise.bootstrap = bootstrap.ok() ? std::numbers::sqrt2 * bootstrap->rms : kNoBootstrap;
  return noise;
}

}  // namespace polyveil::runtime
