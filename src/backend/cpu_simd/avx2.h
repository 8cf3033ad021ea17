// 256-bit building blocks without IFMA: residues as doubles, exact products by fused multiply-add.
//
// For |a| <= 2^52, |w| < q < 2^50: h = a w rounded and l = fma(a, w, -h) hold the product exactly;
// p, a rounded a w / q off by less than two, gives r = fma(-p, q, h) + l, both steps exact,
// congruent to a w, |r| < 2q. Included by files compiled for AVX2 + FMA only; everything is forced
// inline.
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

PV_ALWAYS_INLINE Real Round(Real x) {
  return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

struct Constants {
  Real q;
  Real inverse;
  PV_ALWAYS_INLINE explicit Constants(const ring::Modulus& m)
      : q(Set(static_cast<double>(m.q))), inverse(Set(m.inverse)) {}
};

// A fixed factor and its ratio to q.
struct Factor {
  Real w;
  Real ratio;
};

PV_ALWAYS_INLINE Factor MakeFactor(const ring::ShoupFactor& f) {
  return {Set(static_cast<double>(f.value)), Set(static_cast<double>(f.quotient) * 0x1p-52)};
}

PV_ALWAYS_INLINE Real MulByQuotient(Real a, Real w, Real quotient, const Constants& c) {
  const Real h = _mm256_mul_pd(a, w);
  const Real l = _mm256_fmsub_pd(a, w, h);
  return _mm256_add_pd(_mm256_fnmadd_pd(quotient, c.q, h), l);
}

// a * w mod q in (-2q, 2q) for |a| <= 2^52; below 5/4 q in magnitude for |a| <= 2q.
PV_ALWAYS_INLINE Real MulLazy(Real a, const Factor& f, const Constants& c) {
  return MulByQuotient(a, f.w, Round(_mm256_mul_pd(a, f.ratio)), c);
}

// a * b mod q in (-q, q) for a, b in [0, q).
PV_ALWAYS_INLINE Real MulSigned(Real a, Real b, const Constants& c) {
  const Real quotient = Round(_mm256_mul_pd(_mm256_mul_pd(a, b), c.inverse));
  return MulByQuotient(a, b, quotient, c);
}

// x + m where x < 0.
PV_ALWAYS_INLINE Real AddIfNegative(Real x, Real m) {
  return _mm256_add_pd(x, _mm256_and_pd(_mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ), m));
}
PV_ALWAYS_INLINE Real SubIfNotBelow(Real x, Real m) {
  return _mm256_sub_pd(x, _mm256_and_pd(_mm256_cmp_pd(x, m, _CMP_GE_OQ), m));
}
// (-2q, 2q) -> [0, q)
PV_ALWAYS_INLINE Real Normalise(Real x, const Constants& c) {
  return SubIfNotBelow(AddIfNegative(x, _mm256_add_pd(c.q, c.q)), c.q);
}
// |x| <= 2^52 -> about [-q/2, q/2]
PV_ALWAYS_INLINE Real ReduceCentred(Real x, const Constants& c) {
  return _mm256_fnmadd_pd(Round(_mm256_mul_pd(x, c.inverse)), c.q, x);
}

}  // namespace polyveil::backend::avx2
