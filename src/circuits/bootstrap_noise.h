// Predicted error of a bootstrap.
#pragma once

#include "circuits/bootstrapper.h"
#include "ckks/noise_estimator.h"

namespace polyveil::circuits {

// Of a real or imaginary part of a slot, for slots uniform in [-1, 1].
struct BootstrapNoise {
  double rms = 0;         // everything
  double systematic = 0;  // root mean square of the sine's and the fit's error alone
  double worst = 0;       // expected largest of all slots
};

// Where the error comes from, in order: EvalMod's roundings, above all that of C_2 where the
// multiple of q0 is 0 (see eval_mod.h), weighted with the multiples' distribution (h + 1 uniforms);
// the rounding of CtS' last rescale, which the inverse of the message ratio amplifies; the cubic
// term of the sine and the fit; `input_error` (root mean square of a slot's modulus), the last
// rounding of StC and ModRaise. Roundings of the earlier factors of StC and CtS are below 2^-28 at
// N = 2^16 and left out. Errors: those of EvalMod::Create.
Result<BootstrapNoise> EstimateBootstrap(const ckks::NoiseEstimator& estimator,
                                         const BootstrapSpec& spec, double input_error);

}  // namespace polyveil::circuits
