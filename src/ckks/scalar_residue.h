// Exact integers given as doubles, as residues (internal to the evaluator).
#pragma once

#include <cmath>

#include "ring/modulus.h"

namespace polyveil::ckks {

// round(x) mod q for any finite x: a double of magnitude 2^53 and more is an integer already.
inline u64 RoundedResidue(double x, const ring::Modulus& q) {
  if (std::abs(x) < 0x1p62) return q.ReduceSigned(std::llrint(x));
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  const u64 odd = q.ReduceSigned(static_cast<i64>(std::ldexp(mantissa, 53)));
  return q.Mul(odd, q.Pow(2, static_cast<u64>(exponent - 53)));
}

}  // namespace polyveil::ckks
