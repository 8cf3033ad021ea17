// What noise leaves in the slots of a step's result, from the parameters and the bundle's
// description alone: a client that holds no weights can tell a sound result from a broken one.
#pragma once

#include "ckks/parameters.h"
#include "model/config.h"

namespace polyveil::runtime {

// Root mean squares of the modulus, in units of the slot (residual / ResidualUnits::result()).
struct ResultNoise {
  double copies = 0;     // of a slot against its copies in the other periods
  double imaginary = 0;  // of what is not real, the same in every copy or not
};

// On the high side: every residual is taken as bootstrapped, every branch at its bound (at the unit
// where the bundle knows none). Derivation: docs/decisions/0015-results-checked.md. Requires a
// model that has a program.
ResultNoise PredictResultNoise(const model::ModelConfig& config, const ckks::Parameters& params);

// Predictions hold to this factor (noise_estimator_test.cc, result_noise_test.cc).
inline constexpr double kNoiseAccuracy = 4;

}  // namespace polyveil::runtime
