// Sums of products of ciphertexts with a plaintext each, in one pass through the cache: for every
// block of words all terms, reduced once.
#pragma once

#include <span>

#include "base/result.h"
#include "circuits/compact_plaintext.h"
#include "ckks/evaluator.h"

namespace polyveil::circuits {

// sum_i (plain[i] a[i]) b[i], 1 to 32 terms. Shape: a, b of degree 1, all at plain's level; the
// result has degree 2. Level: that. Scale: `plain_scale` times those of a and b. Nothing is
// rescaled between. Errors: kMismatch (levels, degrees, scales).
Result<ckks::Ciphertext> MultiplyBand(const ckks::Evaluator& evaluator,
                                      std::span<const ckks::Ciphertext* const> a,
                                      std::span<const CompactPlaintext> plain, double plain_scale,
                                      std::span<const ckks::Ciphertext* const> b);

}  // namespace polyveil::circuits
