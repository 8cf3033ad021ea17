#include "bench/ceilings.h"

#include <immintrin.h>

#define PV_IFMA __attribute__((target("avx512f,avx512ifma")))

namespace polyveil::bench {
namespace {

constexpr int kVectors = 8;

// Keeps a value in a register and opaque to the optimiser.
template <typename T>
PV_IFMA inline __attribute__((always_inline)) void Keep(T& value) {
  asm volatile("" : "+v"(value));
}

}  // namespace

bool HasIfma() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
}

PV_IFMA u64 RegisterButterflies(u64 rounds) {
  const __m512i two_q = _mm512_set1_epi64(2 * ((1LL << 49) - 111));
  const __m512i neg_q = _mm512_set1_epi64((1LL << 52) - ((1LL << 49) - 111));
  const __m512i mask = _mm512_set1_epi64((1LL << 52) - 1);
  const __m512i zero = _mm512_setzero_si512();
  __m512i w = _mm512_set1_epi64(123456789012345), quotient = _mm512_set1_epi64(987654321098765);
  __m512i x[kVectors], y[kVectors];
  for (int i = 0; i < kVectors; ++i) x[i] = y[i] = _mm512_set1_epi64(i + 77);
  for (u64 r = 0; r < rounds; ++r) {
    for (int i = 0; i < kVectors; ++i) {
      const __m512i a = _mm512_min_epu64(x[i], _mm512_sub_epi64(x[i], two_q));
      const __m512i estimate = _mm512_madd52hi_epu64(zero, y[i], quotient);
      const __m512i product = _mm512_and_si512(
          _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(zero, y[i], w), estimate, neg_q), mask);
      x[i] = _mm512_add_epi64(a, product);
      y[i] = _mm512_sub_epi64(_mm512_add_epi64(a, two_q), product);
      Keep(x[i]);
      Keep(y[i]);
    }
  }
  return rounds * kVectors * 8;
}

PV_IFMA u64 RegisterNearButterflies(u64 rounds) {
  constexpr u64 kModulus = (u64{1} << 50) - 27;
  const __m512i q = _mm512_set1_epi64(kModulus);
  const __m512i neg_q = _mm512_set1_epi64((1LL << 52) - kModulus);
  const __m512i mask = _mm512_set1_epi64((1LL << 52) - 1);
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi64(1);
  __m512i w = _mm512_set1_epi64(123456789012345), quotient = _mm512_set1_epi64(987654321098765);
  __m512i x[kVectors], y[kVectors];
  for (int i = 0; i < kVectors; ++i) x[i] = y[i] = _mm512_set1_epi64(i + 77);
  for (u64 r = 0; r < rounds; ++r) {
    for (int i = 0; i < kVectors; i += 2) {  // both words are summed next: x stays exact
      const __m512i estimate = _mm512_madd52hi_epu64(zero, y[i], quotient);
      const __m512i product = _mm512_and_si512(
          _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(zero, y[i], w), estimate, neg_q), mask);
      y[i] = _mm512_sub_epi64(x[i], product);
      x[i] = _mm512_add_epi64(x[i], product);
      Keep(x[i]);
      Keep(y[i]);
    }
    for (int i = 1; i < kVectors; i += 2) {  // both words are multiplied next: x is reduced
      const __m512i multiple = _mm512_maskz_srai_epi64(0xFF, x[i], 50);
      const __m512i a = _mm512_add_epi64(_mm512_madd52lo_epu64(x[i], multiple, neg_q), q);
      const __m512i estimate = _mm512_madd52hi_epu64(one, y[i], quotient);
      x[i] = _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(a, y[i], w), estimate, neg_q);
      y[i] = _mm512_sub_epi64(_mm512_add_epi64(a, a), x[i]);
      Keep(x[i]);
      Keep(y[i]);
    }
  }
  return rounds * kVectors * 8;
}

PV_IFMA u64 RegisterProducts(u64 rounds) {
  __m512i low[kVectors], high[kVectors];
  __m512i a = _mm512_set1_epi64(123456789012345), b = _mm512_set1_epi64(987654321098765);
  for (int i = 0; i < kVectors; ++i) low[i] = high[i] = _mm512_setzero_si512();
  for (u64 r = 0; r < rounds; ++r) {
    for (int i = 0; i < kVectors; ++i) {
      low[i] = _mm512_madd52lo_epu64(low[i], a, b);
      high[i] = _mm512_madd52hi_epu64(high[i], a, b);
      Keep(low[i]);
      Keep(high[i]);
    }
  }
  return rounds * kVectors * 8;
}

u64 ReadAll(const u64* data, size_t words) {
  u64 sums[8] = {};
  for (size_t j = 0; j + 64 <= words; j += 64)
    for (size_t k = 0; k < 8; ++k) sums[k] += data[j + 8 * k];
  u64 total = 0;
  for (const u64 sum : sums) total += sum;
  return total;
}

}  // namespace polyveil::bench
