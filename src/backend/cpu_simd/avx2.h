// 256-bit building blocks without IFMA: residues as doubles, exact products by fused multiply-add.
//
// For |a| <= 2^52 and |w| <= q/2, q < 2^50: h = a w rounded and l = fma(a, w, -h) hold the product
// exactly; p, the integer next to h / q, is off a w / q by at most 1/2 + |a w / q| 2^-52, so that
// r = fma(-p, q, h) + l, both steps exact, is congruent to a w and
//     |r| <= q (1/2 + |a| / 2^53), at most q.
// Included by files compiled for AVX2 + FMA only; everything is forced inline.
#pragma once

#include <immintrin.h>

#include "ring/modulus.h"

namespace polyveil::backend::avx2 {

using Real = __m256d;
using Words = __m256i;
inline constexpr size_t kLanes = 4;

PV_ALWAYS_INLINE Words LoadWords(const u64* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
PV_ALWAYS_INLINE void StoreWords(u64* p, Words v) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), v);
}
PV_ALWAYS_INLINE Words SetWords(u64 x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
PV_ALWAYS_INLINE Real Set(double x) { return _mm256_set1_pd(x); }

// Words below 2^52 <-> doubles, by placing them in the mantissa of 2^52.
PV_ALWAYS_INLINE Real ToReal(Words x) {
  const Real base = Set(0x1p52);
  return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(x, _mm256_castpd_si256(base))), base);
}
PV_ALWAYS_INLINE Words ToWords(Real x) {
  const Real base = Set(0x1p52);
  return _mm256_xor_si256(_mm256_castpd_si256(_mm256_add_pd(x, base)), _mm256_castpd_si256(base));
}
PV_ALWAYS_INLINE Real Load(const u64* p) { return ToReal(LoadWords(p)); }
PV_ALWAYS_INLINE void Store(u64* p, Real x) { StoreWords(p, ToWords(x)); }

struct Constants {
  Real q;
  Real inverse;
  PV_ALWAYS_INLINE explicit Constants(const ring::Modulus& m)
      : q(Set(static_cast<double>(m.q))), inverse(Set(m.inverse)) {}
};

// The integer next to x / q, |x / q| <= 2^51: the sum with 1.5 * 2^52 has no fraction.
PV_ALWAYS_INLINE Real Quotient(Real x, const Constants& c) {
  const Real whole = Set(0x1.8p52);
  return _mm256_sub_pd(_mm256_fmadd_pd(x, c.inverse, whole), whole);
}

// A fixed factor as its representative in [-q/2, q/2].
PV_ALWAYS_INLINE Real Factor(u64 w, const ring::Modulus& q) {
  return Set(static_cast<double>(q.Centred(w)));
}

// a * w mod q, |a| <= 2^52 and |w| <= q/2, or a and w in [0, q): in [-q, q], as above; below 3/4 q
// in magnitude where |a| <= 2q, or both are in [0, q).
PV_ALWAYS_INLINE Real MulLazy(Real a, Real w, const Constants& c) {
  const Real h = _mm256_mul_pd(a, w);
  const Real l = _mm256_fmsub_pd(a, w, h);
  return _mm256_add_pd(_mm256_fnmadd_pd(Quotient(h, c), c.q, h), l);
}

// |x| <= 2^53 -> [-q/2, q/2], past either end by at most 1
PV_ALWAYS_INLINE Real ReduceCentred(Real x, const Constants& c) {
  return _mm256_fnmadd_pd(Quotient(x, c), c.q, x);
}

// [-q, q) -> [0, q)
PV_ALWAYS_INLINE Real AddIfNegative(Real x, const Constants& c) {
  return _mm256_add_pd(x, _mm256_and_pd(_mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ), c.q));
}
// |x| <= 2^53 -> [0, q)
PV_ALWAYS_INLINE Real Normalise(Real x, const Constants& c) {
  return AddIfNegative(ReduceCentred(x, c), c);
}

}  // namespace polyveil::backend::avx2
