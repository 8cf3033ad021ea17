// What noise leaves in the slots of a step's result, from the parameters and a few numbers about
// the model: a client that holds no layer can tell a sound result from a broken one.
#pragma once

#include <limits>

#include "ckks/parameters.h"
#include "compile/units.h"
#include "model/decoder.h"

namespace polyveil::runtime {

// Of the square of a noise, how often each source's square is in it (NoiseModel's, of parameters).
struct NoiseShares {
  double fresh = 0, bootstrap = 0, rescale = 0, key_switch = 0;
  double key_switch_rows = 0;  // of a sum over all rows of d_model slots
};

// What the layers may make of a result.
struct ResultBounds {
  // Of the residual's values, in their own unit: what the last feed-forward may make of its norm's
  // interval.
  double mean_square = std::numeric_limits<double>::infinity();
  NoiseShares copies, imaginary;
};
// On the high side: every residual is taken as bootstrapped, every branch at its bound (at the unit
// where the model knows none). Derivation: docs/decisions/0015-results-checked.md. Requires a model
// that has a program; units: the program's.
ResultBounds BoundsOfResult(const model::Decoder& decoder, const compile::ResidualUnits& units);

// Root mean squares of the modulus, in units of the slot (residual / ResidualUnits::result()).
struct ResultNoise {
  double copies = 0;     // of a slot against its copies in the other periods
  double imaginary = 0;  // of what is not real, the same in every copy or not
};
ResultNoise PredictResultNoise(const ResultBounds& bounds, int width,
                               const ckks::Parameters& params);

// Predictions hold to this factor (noise_estimator_test.cc, result_noise_test.cc).
inline constexpr double kNoiseAccuracy = 4;

}  // namespace polyveil::runtime
