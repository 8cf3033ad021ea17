// Standard deviation of one slot's error for each operation, from the parameters alone.
#pragma once

#include "ckks/parameters.h"

namespace polyveil::runtime {

// In units of the slot (error / scale), of the error's modulus, at the nominal working scale. The
// numbers are those of ckks/noise_estimator.h and circuits/bootstrap_noise.h, which tests compare
// with measured errors.
struct NoiseModel {
  double fresh = 0;       // encryption: the error sample and the encoding
  double encode = 0;      // rounding of a plaintext's coefficients
  double rescale = 0;     // rounding by the dropped prime, times (1, s)
  double key_switch = 0;  // ModDown's rounding and the key's error / P, at the worst working level
  double bootstrap = 0;   // of a bootstrap of real slots, its approximation errors included

  static NoiseModel Zero() { return {}; }
  static NoiseModel ForParameters(const ckks::Parameters& params);
};

}  // namespace polyveil::runtime
