// The inner sums of baby-step giant-step: for every giant step g, sum_b plain[g][b] * rotate(x, b)
// over QP. Rotations, plaintext expansion and sums go block by block through the cache, so that no
// rotated ciphertext is ever stored: the traffic is the keys, the digits and the sums.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "circuits/compact_plaintext.h"
#include "ckks/evaluator.h"

namespace polyveil::circuits {

using PlaintextRow = std::map<int, CompactPlaintext>;  // baby rotation -> diagonal
using PlaintextRows = std::map<int, PlaintextRow>;     // giant rotation -> row

// Shape: x of degree 1; rows encoded over QP at x.level, keys with that level's special primes.
// Level/scale: those of x times `plain_scale`. Cost: one ModUp, a key product per baby, a product
// per plaintext. Errors: kMissingKey. Source: double hoisting, Bossuat et al., ePrint 2020/1203.
Result<std::map<int, ckks::ExtendedCiphertext>> MultiplyRows(const ckks::Evaluator& evaluator,
                                                             const ckks::Ciphertext& x,
                                                             const PlaintextRows& rows,
                                                             double plain_scale);

}  // namespace polyveil::circuits
