// Evaluation of polynomials in the Chebyshev basis on ciphertexts (Paterson-Stockmeyer, depth-optimal splitting:
// Bossuat et al., ePrint 2020/1203).
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "ckks/evaluator.h"

namespace polyveil::circuits {

// Multiplicative depth of a degree-d evaluation: ceil(log2(d + 1)).
int ChebyshevDepth(int degree);

// sum_k coeffs[k] T_k(u) for a ciphertext u whose slots lie in [-1, 1] (any exact scale).
// Level/scale: out.level = u.level - ChebyshevDepth(degree), out.scale = output_scale exactly (the caller names it, so that no
// level is spent on a constant).
// Cost: about 2 sqrt(d) + log2(d) relinearised products; constants never cost an encoding. Zero coefficients (odd or even polynomials) skip work.
// Errors: kOutOfRange when u.level < depth.
Result<ckks::Ciphertext> EvaluateChebyshev(const ckks::Evaluator& evaluator, const ckks::Ciphertext& u,
                                           std::span<const double> coeffs, double output_scale);

}  // namespace polyveil::circuits
