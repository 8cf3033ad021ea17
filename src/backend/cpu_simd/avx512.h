// 512-bit building blocks on 52-bit IFMA words. Included by files compiled for AVX-512 only;
// everything here is forced inline, so that no wide instruction leaks into a shared symbol.
#pragma once

#include <immintrin.h>

#include "ring/modulus.h"

namespace polyveil::backend::avx512 {

using Vec = __m512i;
inline constexpr size_t kLanes = 8;

PV_ALWAYS_INLINE Vec Load(const u64* p) { return _mm512_load_si512(p); }
PV_ALWAYS_INLINE void Store(u64* p, Vec v) { _mm512_store_si512(p, v); }
PV_ALWAYS_INLINE Vec Set(u64 x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
PV_ALWAYS_INLINE Vec Add(Vec a, Vec b) { return _mm512_add_epi64(a, b); }
PV_ALWAYS_INLINE Vec Sub(Vec a, Vec b) { return _mm512_sub_epi64(a, b); }
PV_ALWAYS_INLINE Vec And(Vec a, Vec b) { return _mm512_and_si512(a, b); }
PV_ALWAYS_INLINE Vec Low(Vec acc, Vec a, Vec b) { return _mm512_madd52lo_epu64(acc, a, b); }
PV_ALWAYS_INLINE Vec High(Vec acc, Vec a, Vec b) { return _mm512_madd52hi_epu64(acc, a, b); }
PV_ALWAYS_INLINE Vec Zero() { return _mm512_setzero_si512(); }
// a - b when a >= b, else a: one conditional subtraction, by unsigned wrap-around.
PV_ALWAYS_INLINE Vec SubIfNotBelow(Vec a, Vec b) { return _mm512_min_epu64(a, Sub(a, b)); }

// The constants of one modulus, broadcast.
struct Constants {
  Vec q;
  Vec neg_q;  // 2^52 - q: Low() of it subtracts mod 2^52
  Vec two_q;
  Vec mask;  // 2^52 - 1

  PV_ALWAYS_INLINE explicit Constants(const ring::Modulus& m)
      : q(Set(m.q)),
        neg_q(Set((u64{1} << 52) - m.q)),
        two_q(Set(2 * m.q)),
        mask(Set(ring::kMask52)) {}
};

// x * w mod q in [0, 2q) in the low 52 bits; bits above may hold a carry that IFMA multipliers
// ignore.
PV_ALWAYS_INLINE Vec MulShoupDirty(Vec x, Vec w, Vec quotient, const Constants& c) {
  const Vec estimate = High(Zero(), x, quotient);
  return Low(Low(Zero(), x, w), estimate, c.neg_q);
}

PV_ALWAYS_INLINE Vec MulShoupLazy(Vec x, Vec w, Vec quotient, const Constants& c) {
  return And(MulShoupDirty(x, w, quotient, c), c.mask);
}

PV_ALWAYS_INLINE Vec MulShoup(Vec x, Vec w, Vec quotient, const Constants& c) {
  return SubIfNotBelow(MulShoupLazy(x, w, quotient, c), c.q);
}

// x mod q for x < 2^52 (bits above 52 ignored).
PV_ALWAYS_INLINE Vec Reduce52(Vec x, Vec inv52, const Constants& c) {
  const Vec estimate = High(Zero(), x, inv52);
  const Vec r = And(Low(x, estimate, c.neg_q), c.mask);
  return SubIfNotBelow(r, c.q);
}

// Products of two residues.
struct Barrett {
  Constants c;
  Vec factor;
  __m128i shift;  // 52 - bits

  PV_ALWAYS_INLINE explicit Barrett(const ring::Modulus& m)
      : c(m), factor(Set(m.barrett)), shift(_mm_cvtsi32_si128(52 - m.bits)) {}

  // a * b mod q: floor(a b / 2^(bits-1)) times 2^(bits+51) / q is at most 2.5 below the quotient.
  PV_ALWAYS_INLINE Vec Mul(Vec a, Vec b) const {
    const Vec top = High(Zero(), Add(a, a), _mm512_sll_epi64(b, shift));
    const Vec estimate = High(Zero(), top, factor);
    const Vec r = And(Low(Low(Zero(), a, b), estimate, c.neg_q), c.mask);
    return SubIfNotBelow(SubIfNotBelow(r, c.q), c.q);
  }
};

// Reduces sums of up to 64 products below 2^100, kept as high * 2^52 + low with low < 2^58, high <
// 2^54.
struct SumReducer {
  Constants c;
  Vec pow55, pow55_quotient, inv55, mask3;

  PV_ALWAYS_INLINE explicit SumReducer(const ring::Modulus& m)
      : c(m),
        pow55(Set(m.pow55.value)),
        pow55_quotient(Set(m.pow55.quotient)),
        inv55(Set(m.inv55)),
        mask3(Set(7)) {}

  PV_ALWAYS_INLINE Vec Reduce(Vec high, Vec low) const {
    high = Add(high, _mm512_srli_epi64(low, 52));
    low = And(low, c.mask);
    // The sum is top * 2^55 + rest, rest < 2^55.
    const Vec top = _mm512_srli_epi64(high, 3);
    const Vec rest_high = And(high, mask3);
    const Vec rest_top =
        _mm512_or_si512(_mm512_slli_epi64(rest_high, 49), _mm512_srli_epi64(low, 3));
    const Vec estimate = High(Zero(), rest_top, inv55);  // at most 2 + 8/q short of rest / q
    const Vec rest = Low(low, estimate, c.neg_q);
    const Vec sum = And(Add(MulShoupDirty(top, pow55, pow55_quotient, c), rest), c.mask);
    const Vec once = SubIfNotBelow(sum, c.two_q);  // sum < 4q + 8
    return SubIfNotBelow(SubIfNotBelow(once, c.q), c.q);
  }
};

}  // namespace polyveil::backend::avx512
