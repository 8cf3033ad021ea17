// Standard deviation of one slot's error for each operation, from the parameters alone.
#pragma once

#include "ckks/parameters.h"

namespace polyveil::runtime {

// In units of the slot (error / scale), at the nominal working scale. Sources: Cheon et al. 2017
// (CKKS), Kim et al., ePrint 2020/1118, for the rescale's rounding under a dense ternary secret.
struct NoiseModel {
  double fresh = 0;       // encryption: the error sample
  double encode = 0;      // rounding of a plaintext's coefficients
  double rescale = 0;     // rounding by the dropped prime, times (1, s)
  double key_switch = 0;  // ModDown's rounding and the key's error / P
  double bootstrap = 0;   // EvalMod's error; measured, see docs/performance.md

  static NoiseModel Zero() { return {}; }
  static NoiseModel ForParameters(const ckks::Parameters& params);
};

}  // namespace polyveil::runtime
