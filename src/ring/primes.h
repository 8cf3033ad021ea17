// NTT primes: q = 1 mod 2N, near a power of two.
#pragma once

#include <span>
#include <vector>

#include "base/int_types.h"
#include "base/result.h"

namespace polyveil::ring {

// Deterministic Miller-Rabin for every 64-bit value.
bool IsPrime(u64 value);

// `count` distinct primes q = 1 mod 2n, as near to 2^bits as possible, alternately below and above
// it (so that their product stays near 2^(bits * count)); below only when bits = 50, the words'
// bound. None is in `taken`. Errors: kInvalidArgument (n no power of two, bits outside 13..50),
// kOutOfRange when there are too few primes.
Result<std::vector<u64>> FindNttPrimes(size_t n, int bits, size_t count,
                                       std::span<const u64> taken = {});

// The prime q = 1 mod 2n nearest to `target` that is not in `taken` (q < 2^50): scale-matched level
// primes.
Result<u64> NearestNttPrime(size_t n, double target, std::span<const u64> taken = {});

// A primitive 2n-th root of unity mod the prime q (the smallest power-of-generator one found;
// deterministic).
u64 PrimitiveRoot(u64 q, size_t two_n);

}  // namespace polyveil::ring
