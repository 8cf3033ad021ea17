// Negacyclic NTT in AVX2 with exact double-precision products. Between passes the output holds
// doubles (their bits in the words); radix-4 passes; the last four stages work on 16 words in
// registers.
//
// Magnitudes (q < 2^50). Forward: words |v| <= 2q; the left operand is centred (<= q/2 + 1), the
// product is below 5/4 q. Inverse: sums are centred, products below 2q, so that differences stay
// below 4q <= 2^52.
#include "backend/cpu_simd/ntt_avx2.h"

#include "backend/cpu_simd/avx2.h"

namespace polyveil::backend::avx2 {
namespace {

using ring::Modulus;
using ring::NttTables;
using ring::TwiddleTable;

constexpr size_t kLeafWords = 16;

PV_ALWAYS_INLINE Real LoadReal(const u64* p) {
  return _mm256_load_pd(reinterpret_cast<const double*>(p));
}
PV_ALWAYS_INLINE void StoreReal(u64* p, Real x) {
  _mm256_store_pd(reinterpret_cast<double*>(p), x);
}

PV_ALWAYS_INLINE Factor FromWords(Words power, Words quotient) {
  return {ToReal(power), _mm256_mul_pd(ToReal(quotient), Set(0x1p-52))};
}
PV_ALWAYS_INLINE Factor Broadcast(const TwiddleTable& t, size_t i) {
  return FromWords(SetWords(t.power[i]), SetWords(t.quotient[i]));
}
// The in-vector stages. A group of eight words has one root s (and s^2): its two blocks at distance
// 2 have the factors s^2 unit[0..1], its four at distance 1 have s unit[0..3].
struct Units {
  Factor distance2, distance1;

  PV_ALWAYS_INLINE explicit Units(const TwiddleTable& t)
      : distance2(FromWords(_mm256_set_epi64x(Power(t, 1), Power(t, 1), Power(t, 0), Power(t, 0)),
                            _mm256_set_epi64x(Ratio(t, 1), Ratio(t, 1), Ratio(t, 0), Ratio(t, 0)))),
        distance1(
            FromWords(_mm256_set_epi64x(Power(t, 3), Power(t, 2), Power(t, 1), Power(t, 0)),
                      _mm256_set_epi64x(Ratio(t, 3), Ratio(t, 2), Ratio(t, 1), Ratio(t, 0)))) {}

 private:
  PV_ALWAYS_INLINE static long long Power(const TwiddleTable& t, size_t c) {
    return static_cast<long long>(t.unit[c].value);
  }
  PV_ALWAYS_INLINE static long long Ratio(const TwiddleTable& t, size_t c) {
    return static_cast<long long>(t.unit[c].quotient);
  }
};

PV_ALWAYS_INLINE void ForwardButterfly(Real& x, Real& y, const Factor& w, const Constants& c) {
  const Real product = MulLazy(y, w, c);
  const Real a = ReduceCentred(x, c);
  x = _mm256_add_pd(a, product);
  y = _mm256_sub_pd(a, product);
}

PV_ALWAYS_INLINE void InverseButterfly(Real& x, Real& y, const Factor& w, const Constants& c) {
  const Real difference = _mm256_sub_pd(x, y);
  x = ReduceCentred(_mm256_add_pd(x, y), c);
  y = MulLazy(difference, w, c);
}

PV_ALWAYS_INLINE void ForwardTail(Real& x, Real& y, const Factor& root, const Factor& unit,
                                  const Constants& c) {
  y = MulLazy(y, root, c);
  ForwardButterfly(x, y, unit, c);
}
PV_ALWAYS_INLINE void InverseTail(Real& x, Real& y, const Factor& root, const Factor& unit,
                                  const Constants& c) {
  InverseButterfly(x, y, unit, c);
  y = MulLazy(y, root, c);
}

// The residue of a centred or lazy value as a word.
PV_ALWAYS_INLINE void StoreResidue(u64* p, Real x, const Constants& c) {
  Store(p, Normalise(ReduceCentred(x, c), c));
}

PV_ALWAYS_INLINE void SwapHalves(Real& a,
                                 Real& b) {  // [a0 a1 b0 b1], [a2 a3 b2 b3]; its own inverse
  const Real x = a;
  a = _mm256_permute2f128_pd(x, b, 0x20);
  b = _mm256_permute2f128_pd(x, b, 0x31);
}
PV_ALWAYS_INLINE void SwapSingles(Real& a,
                                  Real& b) {  // [a0 a2 b0 b2], [a1 a3 b1 b3]; its own inverse
  const Real x = a;
  a = _mm256_unpacklo_pd(x, b);
  b = _mm256_unpackhi_pd(x, b);
}

// Two stages at distances 2 * quarter and quarter, m blocks.
void ForwardPass(u64* data, size_t m, size_t quarter, const TwiddleTable& t, const Constants& c) {
  for (size_t i = 0; i < m; ++i) {
    const Factor w1 = Broadcast(t, m + i);
    const Factor w2 = Broadcast(t, 2 * (m + i)), w3 = Broadcast(t, 2 * (m + i) + 1);
    u64* block = data + 4 * quarter * i;
    for (size_t j = 0; j < quarter; j += kLanes) {
      u64* p = block + j;
      Real x0 = LoadReal(p), x1 = LoadReal(p + quarter);
      Real x2 = LoadReal(p + 2 * quarter), x3 = LoadReal(p + 3 * quarter);
      ForwardButterfly(x0, x2, w1, c);
      ForwardButterfly(x1, x3, w1, c);
      ForwardButterfly(x0, x1, w2, c);
      ForwardButterfly(x2, x3, w3, c);
      StoreReal(p, x0);
      StoreReal(p + quarter, x1);
      StoreReal(p + 2 * quarter, x2);
      StoreReal(p + 3 * quarter, x3);
    }
  }
}

void InversePass(u64* data, size_t m, size_t quarter, const TwiddleTable& t, const Constants& c) {
  for (size_t i = 0; i < m; ++i) {
    const Factor w1 = Broadcast(t, m + i);
    const Factor w2 = Broadcast(t, 2 * (m + i)), w3 = Broadcast(t, 2 * (m + i) + 1);
    u64* block = data + 4 * quarter * i;
    for (size_t j = 0; j < quarter; j += kLanes) {
      u64* p = block + j;
      Real x0 = LoadReal(p), x1 = LoadReal(p + quarter);
      Real x2 = LoadReal(p + 2 * quarter), x3 = LoadReal(p + 3 * quarter);
      InverseButterfly(x0, x1, w2, c);
      InverseButterfly(x2, x3, w3, c);
      InverseButterfly(x0, x2, w1, c);
      InverseButterfly(x1, x3, w1, c);
      StoreReal(p, x0);
      StoreReal(p + quarter, x1);
      StoreReal(p + 2 * quarter, x2);
      StoreReal(p + 3 * quarter, x3);
    }
  }
}

// The first stage: words to doubles.
void ForwardFirst(u64* out, const u64* in, size_t n, const TwiddleTable& t, const Constants& c) {
  const Factor w = Broadcast(t, 1);
  for (size_t j = 0; j < n / 2; j += kLanes) {
    Real x = Load(in + j), y = Load(in + j + n / 2);
    ForwardButterfly(x, y, w, c);
    StoreReal(out + j, x);
    StoreReal(out + j + n / 2, y);
  }
}

// One stage with two blocks, where the number of stages between first and leaf is odd.
void ForwardSecond(u64* data, size_t n, const TwiddleTable& t, const Constants& c) {
  for (size_t i = 0; i < 2; ++i) {
    const Factor w = Broadcast(t, 2 + i);
    u64* block = data + i * (n / 2);
    for (size_t j = 0; j < n / 4; j += kLanes) {
      Real x = LoadReal(block + j), y = LoadReal(block + j + n / 4);
      ForwardButterfly(x, y, w, c);
      StoreReal(block + j, x);
      StoreReal(block + j + n / 4, y);
    }
  }
}

void InverseSecond(u64* data, size_t n, const TwiddleTable& t, const Constants& c) {
  for (size_t i = 0; i < 2; ++i) {
    const Factor w = Broadcast(t, 2 + i);
    u64* block = data + i * (n / 2);
    for (size_t j = 0; j < n / 4; j += kLanes) {
      Real x = LoadReal(block + j), y = LoadReal(block + j + n / 4);
      InverseButterfly(x, y, w, c);
      StoreReal(block + j, x);
      StoreReal(block + j + n / 4, y);
    }
  }
}

// The last four stages on 16 words, to residues.
PV_ALWAYS_INLINE void ForwardLeaf(u64* data, size_t n, size_t leaf, const TwiddleTable& t,
                                  const Units& units, const Constants& c) {
  const size_t node = n / kLeafWords + leaf;
  u64* p = data + leaf * kLeafWords;
  Real x[4];
  for (size_t k = 0; k < 4; ++k) x[k] = LoadReal(p + k * kLanes);
  const Factor w1 = Broadcast(t, node);
  const Factor w2 = Broadcast(t, 2 * node), w3 = Broadcast(t, 2 * node + 1);
  ForwardButterfly(x[0], x[2], w1, c);
  ForwardButterfly(x[1], x[3], w1, c);
  ForwardButterfly(x[0], x[1], w2, c);
  ForwardButterfly(x[2], x[3], w3, c);
  for (size_t k = 0; k < 4; k += 2) {
    const size_t group = 2 * leaf + k / 2;
    SwapHalves(x[k], x[k + 1]);
    ForwardTail(x[k], x[k + 1], Broadcast(t, n / 4 + group), units.distance2, c);
    SwapSingles(x[k], x[k + 1]);
    ForwardTail(x[k], x[k + 1], Broadcast(t, 3 * n / 8 + group), units.distance1, c);
    SwapSingles(x[k], x[k + 1]);
    SwapHalves(x[k], x[k + 1]);
    StoreResidue(p + k * kLanes, x[k], c);
    StoreResidue(p + (k + 1) * kLanes, x[k + 1], c);
  }
}

PV_ALWAYS_INLINE void InverseLeaf(u64* out, const u64* in, size_t n, size_t leaf,
                                  const TwiddleTable& t, const Units& units, const Constants& c) {
  const size_t node = n / kLeafWords + leaf;
  const size_t base = leaf * kLeafWords;
  Real x[4];
  for (size_t k = 0; k < 4; k += 2) {
    const size_t group = 2 * leaf + k / 2;
    x[k] = Load(in + base + k * kLanes);
    x[k + 1] = Load(in + base + (k + 1) * kLanes);
    SwapHalves(x[k], x[k + 1]);
    SwapSingles(x[k], x[k + 1]);
    InverseTail(x[k], x[k + 1], Broadcast(t, 3 * n / 8 + group), units.distance1, c);
    SwapSingles(x[k], x[k + 1]);
    InverseTail(x[k], x[k + 1], Broadcast(t, n / 4 + group), units.distance2, c);
    SwapHalves(x[k], x[k + 1]);
  }
  const Factor w1 = Broadcast(t, node);
  const Factor w2 = Broadcast(t, 2 * node), w3 = Broadcast(t, 2 * node + 1);
  InverseButterfly(x[0], x[1], w2, c);
  InverseButterfly(x[2], x[3], w3, c);
  InverseButterfly(x[0], x[2], w1, c);
  InverseButterfly(x[1], x[3], w1, c);
  for (size_t k = 0; k < 4; ++k) StoreReal(out + base + k * kLanes, x[k]);
}

// Stages between the first (m = 1) and the leaf (m = n / 16): m = 2 .. n / 32.
constexpr int InnerStages(int log_n) { return log_n - 5; }

}  // namespace

void ForwardNtt(u64* out, const u64* in, const NttTables& tables) {
  const Constants c(tables.modulus());
  const TwiddleTable& t = tables.forward();
  const Units units(t);
  const size_t n = tables.n();
  ForwardFirst(out, in, n, t, c);
  size_t m = 2;
  if (InnerStages(tables.log_n()) % 2 == 1) {
    ForwardSecond(out, n, t, c);
    m = 4;
  }
  for (; m < n / kLeafWords; m *= 4) ForwardPass(out, m, n / (4 * m), t, c);
  for (size_t leaf = 0; leaf < n / kLeafWords; ++leaf) ForwardLeaf(out, n, leaf, t, units, c);
}

void InverseNtt(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  const Modulus& q = tables.modulus();
  const Constants c(q);
  const TwiddleTable& t = tables.inverse();
  const Units units(t);
  const size_t n = tables.n();
  for (size_t leaf = 0; leaf < n / kLeafWords; ++leaf) InverseLeaf(out, in, n, leaf, t, units, c);
  const bool odd = InnerStages(tables.log_n()) % 2 == 1;
  for (size_t m = n / (4 * kLeafWords); m >= (odd ? 4 : 2); m /= 4)
    InversePass(out, m, n / (4 * m), t, c);
  if (odd) InverseSecond(out, n, t, c);
  const u64 factor = q.Mul(scale, tables.n_inverse());
  const Factor sum = MakeFactor(q.Shoup(factor));
  const Factor difference = MakeFactor(q.Shoup(q.Mul(factor, t.power[1])));
  for (size_t j = 0; j < n / 2; j += kLanes) {
    const Real x = LoadReal(out + j), y = LoadReal(out + j + n / 2);
    StoreResidue(out + j, MulLazy(_mm256_add_pd(x, y), sum, c), c);
    StoreResidue(out + j + n / 2, MulLazy(_mm256_sub_pd(x, y), difference, c), c);
  }
}

}  // namespace polyveil::backend::avx2
