// What the forward and the inverse transform in AVX-512 IFMA share: forms of arithmetic, twiddle
// factors, the regrouping of lanes. Included by files compiled for AVX-512 only.
#pragma once

#include "backend/cpu_simd/avx512.h"
#include "ring/ntt_tables.h"

namespace polyveil::backend::avx512 {

// Roomy: q < 2^45 (2^44 in the inverse): sums just grow inside 52 bits. Near: q is just below a
// power of two, 2^b - 2^(b-8) < q < 2^b, so that x - (x >> b) q is small: sums grow in 64 bits and
// lose their multiples of q with a shift and a product where that is needed. Tight: any other q <
// 2^50; every sum is brought back below 2q.
enum class Form { kRoomy, kNear, kTight };

PV_ALWAYS_INLINE Form FormOf(const ring::Modulus& q, int roomy_bits) {
  if (q.bits <= roomy_bits) return Form::kRoomy;
  const u64 power = u64{1} << q.bits;
  return q.q > power - (power >> 8) ? Form::kNear : Form::kTight;
}

inline constexpr size_t kLeafWords = 128;  // 16 vectors: seven stages in registers
inline constexpr size_t kLeafVectors = kLeafWords / kLanes;

// log2 of the radix of the pass over a block of 2^log_words words: threes, and twos where threes do
// not fit.
PV_ALWAYS_INLINE int PassStages(int log_words) { return (log_words - 7) % 3 == 0 ? 3 : 2; }

// An unrolled loop. One operation of many butterflies after the other keeps the processor's
// schedulers from filling up with instructions that wait.
#define PV_EACH(i, count) _Pragma("GCC unroll 16") for (size_t i = 0; i < (count); ++i)

struct Twiddle {
  Vec power, quotient;
};

PV_ALWAYS_INLINE Twiddle Broadcast(const ring::TwiddleTable& t, size_t i) {
  return {Set(t.power[i]), Set(t.quotient[i])};
}

// Two factors in turn: a b a b a b a b.
PV_ALWAYS_INLINE Twiddle Alternate(const ring::TwiddleTable& t, size_t i) {
  const __m128i power = _mm_load_si128(reinterpret_cast<const __m128i*>(t.power + i));
  const __m128i quotient = _mm_load_si128(reinterpret_cast<const __m128i*>(t.quotient + i));
  return {_mm512_maskz_broadcast_i64x2(0xFF, power), _mm512_maskz_broadcast_i64x2(0xFF, quotient)};
}

// The factors below a node, level by level: w[1], w[2..3], w[4..7].
template <size_t kCount>
PV_ALWAYS_INLINE void BroadcastBelow(const ring::TwiddleTable& t, size_t node,
                                     Twiddle (&w)[kCount]) {
#pragma GCC unroll 8
  for (size_t i = 1; i < kCount; ++i) {
    const int level = 31 - __builtin_clz(static_cast<unsigned>(i));
    w[i] = Broadcast(t, (node << level) + (i - (size_t{1} << level)));
  }
}

// The in-vector stages work on pairs of vectors (a, b), whose groups of eight words have one root s
// each. Factors: at distance 4 s^4, at distance 2 s^2 unit[0..1], at distance 1 s unit[0..3]; the
// units are constants of the table. The lanes take words of a and b in turn, so that the roots are
// plain loads.
// unit: of each pair of lanes.
PV_ALWAYS_INLINE Twiddle UnitLanes(const ring::TwiddleTable& t, const size_t (&unit)[4]) {
  alignas(64) u64 power[kLanes], quotient[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    power[lane] = t.unit[unit[lane / 2]].value;
    quotient[lane] = t.unit[unit[lane / 2]].quotient;
  }
  return {Load(power), Load(quotient)};
}

PV_ALWAYS_INLINE void Pick(Vec& a, Vec& b, Vec first, Vec second) {
  const Vec x = a;
  a = _mm512_permutex2var_epi64(x, first, b);
  b = _mm512_permutex2var_epi64(x, second, b);
}
// Memory order -> a0 b0 a1 b1 a2 b2 a3 b3 | a4 b4 a5 b5 a6 b6 a7 b7, and back.
PV_ALWAYS_INLINE void SplitHalves(Vec& a, Vec& b) {
  Pick(a, b, _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0),
       _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4));
}
PV_ALWAYS_INLINE void JoinHalves(Vec& a, Vec& b) {
  Pick(a, b, _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0),
       _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1));
}
// Memory order <-> a0 b0 a4 b4 a2 b2 a6 b6 | a1 b1 a5 b5 a3 b3 a7 b7: its own inverse.
PV_ALWAYS_INLINE void SwapSingles(Vec& a, Vec& b) {
  Pick(a, b, _mm512_set_epi64(14, 6, 10, 2, 12, 4, 8, 0),
       _mm512_set_epi64(15, 7, 11, 3, 13, 5, 9, 1));
}
// The pairs of lanes 0 1 2 3 | 4 5 6 7 -> 0 1 4 5 | 2 3 6 7.
PV_ALWAYS_INLINE void ExchangeHalves(Vec& a, Vec& b) {
  const Vec x = a;
  a = _mm512_shuffle_i64x2(x, b, 0x44);
  b = _mm512_shuffle_i64x2(x, b, 0xEE);
}
// The pairs of lanes 0 1 2 3 | 4 5 6 7 -> 0 2 4 6 | 1 3 5 7.
PV_ALWAYS_INLINE void ExchangeAlternate(Vec& a, Vec& b) {
  const Vec x = a;
  a = _mm512_shuffle_i64x2(x, b, 0x88);
  b = _mm512_shuffle_i64x2(x, b, 0xDD);
}

// The tables of the in-vector stages are six streams from far away; ask for them some leaves ahead.
inline constexpr size_t kPrefetchWords = 64;
PV_ALWAYS_INLINE void PrefetchTail(const ring::TwiddleTable& t, size_t n, size_t group) {
  for (const size_t base : {n / 8, n / 4, 3 * n / 8}) {
    for (size_t line = 0; line < 16; line += kLanes) {
      _mm_prefetch(t.power + base + group + line + kPrefetchWords, _MM_HINT_T0);
      _mm_prefetch(t.quotient + base + group + line + kPrefetchWords, _MM_HINT_T0);
    }
  }
}

}  // namespace polyveil::backend::avx512
