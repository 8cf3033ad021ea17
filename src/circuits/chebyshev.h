// Evaluation of polynomials in the Chebyshev basis on ciphertexts (Paterson-Stockmeyer,
// depth-optimal splitting: Bossuat et al., ePrint 2020/1203).
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "circuits/chebyshev_plan.h"
#include "ckks/evaluator.h"

namespace polyveil::circuits {

inline constexpr int kMaxChebyshevDegree = 127;

// sum_k coeffs[k] T_k(u) for a ciphertext u whose slots lie in [-1, 1] (any exact scale).
// Level/scale: out.level = u.level - ChebyshevDepth(degree), degree = coeffs.size() - 1; out.scale
// = output_scale exactly (the caller names it, so that no level is spent on a constant). Cost:
// about 2 sqrt(d) + log2(d) relinearised products, `PlanChebyshev(coeffs).relinearizations`
// exactly; constants never cost an encoding. Zero coefficients (odd or even polynomials) skip work.
// Keys: relinearisation at u.level. Errors: kOutOfRange when u.level < depth or a coefficient times
// its scale leaves 62 bits; kInvalidArgument for no coefficients or a degree above
// kMaxChebyshevDegree.
Result<ckks::Ciphertext> EvaluateChebyshev(const ckks::Evaluator& evaluator,
                                           const ckks::Ciphertext& u,
                                           std::span<const double> coeffs, double output_scale);

// p(u) and mask * p(u), both at EvaluateChebyshev's level and scale.
struct MaskedPair {
  ckks::Ciphertext plain, masked;
};

// The mask (any period) is folded into the coefficients of a second evaluation that shares the
// basis: it costs no level. Cost: EvaluateChebyshev, once more its products outside the basis, an
// encoding per coefficient. Requires: at least 2 coefficients. Errors: as EvaluateChebyshev and
// Encode.
Result<MaskedPair> EvaluateChebyshevMasked(const ckks::Evaluator& evaluator,
                                           const ckks::Encoder& encoder, const ckks::Ciphertext& u,
                                           std::span<const double> coeffs,
                                           std::span<const ckks::Complex> mask,
                                           double output_scale);

}  // namespace polyveil::circuits
