// Predicted error of EvaluateChebyshev: first-order propagation of every rounding through the plan
// that the evaluation runs.
#pragma once

#include <span>
#include <vector>

#include "ckks/noise_estimator.h"

namespace polyveil::circuits {

// The root mean square of the error's modulus at each of `samples` (values of u in [-1, 1]), for u
// at (level, scale) with error `input_error`. Sources: the input's error, the rounding of every
// basis element and of every node of the plan, each with its exact first derivative, so that a
// source that is used twice adds up coherently. Left out: the rounding of constants (2^-40 of a
// coefficient). Requires: 2 to kMaxChebyshevDegree + 1 coefficients.
std::vector<double> ChebyshevErrors(const ckks::NoiseEstimator& estimator, int level, double scale,
                                    double input_error, std::span<const double> coeffs,
                                    double output_scale, std::span<const double> samples);

}  // namespace polyveil::circuits
