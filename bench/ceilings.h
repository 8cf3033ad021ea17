// What the machine can do at most, measured in the same run as the kernels.
#pragma once

#include "base/int_types.h"

namespace polyveil::bench {

// Whether the CPU has AVX-512 IFMA; the two register loops need it.
bool HasIfma();
// Harvey butterflies (correction included) on registers; returns the number of butterflies done.
u64 RegisterButterflies(u64 rounds);
// The butterflies of primes just below a power of two (cpu_simd/ntt_avx512.cc), half of them of
// either kind: seven instructions on average against Harvey's nine.
u64 RegisterNearButterflies(u64 rounds);
// Low and high 52-bit multiply-accumulate pairs on registers; returns the number of pairs.
u64 RegisterProducts(u64 rounds);
// Reads every cache line of `words` words; returns their sum.
u64 ReadAll(const u64* data, size_t words);

}  // namespace polyveil::bench
