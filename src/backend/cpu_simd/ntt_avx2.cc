// Negacyclic NTT in AVX2 with exact double-precision products. Between passes the output holds
// doubles (their bits in the words). Every pass is radix 4, two stages; the last two passes work on
// 64 words at a time, the very last on four groups of four words, transposed.
//
// Magnitudes (q < 2^50, so that 4q < 2^52). A product is at most q (1/2 + |a| / 2^53), see avx2.h.
// Forward: a stage adds a product to its left operand. From 1.5 q two passes without a reduction
// but in their very last stage stay below 4q: 1.5, 2.19, 2.96, 3.83, and 1.48 where that stage
// centres the left operand first. Inverse: from q the sums of two stages reach 4q and are centred
// then; products of differences are at most q.
#include "backend/cpu_simd/ntt_avx2.h"

#include "backend/cpu_simd/avx2.h"

namespace polyveil::backend::avx2 {
namespace {

using ring::Modulus;
using ring::NttTables;

constexpr size_t kLeafWords = 16;   // of the last two passes
constexpr size_t kBlockWords = 64;  // on which both work in turn

PV_ALWAYS_INLINE Real LoadReal(const u64* p) {
  return _mm256_load_pd(reinterpret_cast<const double*>(p));
}
PV_ALWAYS_INLINE void StoreReal(u64* p, Real x) {
  _mm256_store_pd(reinterpret_cast<double*>(p), x);
}
PV_ALWAYS_INLINE Real Broadcast(const u64* p) {
  return _mm256_broadcast_sd(reinterpret_cast<const double*>(p));
}

// The factors of two stages: one of the wider distance, two of the narrower.
struct Factors {
  Real wide, first, second;
};

// Those of block i of m; f: the factors in the order of ntt_tables.h.
PV_ALWAYS_INLINE Factors BlockFactors(const u64* f, size_t m, size_t i) {
  return {Broadcast(f + m + i), Broadcast(f + 2 * (m + i)), Broadcast(f + 2 * (m + i) + 1)};
}

template <bool kCentre>
PV_ALWAYS_INLINE void ForwardButterfly(Real& x, Real& y, Real w, const Constants& c) {
  const Real product = MulLazy(y, w, c);
  const Real a = kCentre ? ReduceCentred(x, c) : x;
  x = _mm256_add_pd(a, product);
  y = _mm256_sub_pd(a, product);
}

template <bool kCentre>
PV_ALWAYS_INLINE void ForwardFour(Real (&x)[4], const Factors& w, const Constants& c) {
  ForwardButterfly<false>(x[0], x[2], w.wide, c);
  ForwardButterfly<false>(x[1], x[3], w.wide, c);
  ForwardButterfly<kCentre>(x[0], x[1], w.first, c);
  ForwardButterfly<kCentre>(x[2], x[3], w.second, c);
}

template <bool kCentre>
PV_ALWAYS_INLINE void InverseButterfly(Real& x, Real& y, Real w, const Constants& c) {
  const Real difference = _mm256_sub_pd(x, y), sum = _mm256_add_pd(x, y);
  x = kCentre ? ReduceCentred(sum, c) : sum;
  y = MulLazy(difference, w, c);
}

PV_ALWAYS_INLINE void InverseFour(Real (&x)[4], const Factors& w, const Constants& c) {
  InverseButterfly<false>(x[0], x[1], w.first, c);
  InverseButterfly<false>(x[2], x[3], w.second, c);
  InverseButterfly<true>(x[0], x[2], w.wide, c);
  InverseButterfly<true>(x[1], x[3], w.wide, c);
}

// Four vectors, `stride` words apart, through step(x).
template <typename Step>
PV_ALWAYS_INLINE void OnFour(u64* p, size_t stride, const Step& step) {
  Real x[4];
  for (size_t k = 0; k < 4; ++k) x[k] = LoadReal(p + k * stride);
  step(x);
  for (size_t k = 0; k < 4; ++k) StoreReal(p + k * stride, x[k]);
}

// Two stages at distances 2 * quarter and quarter, m blocks.
template <bool kCentre>
void ForwardPass(u64* data, size_t m, size_t quarter, const u64* f, const Constants& c) {
  for (size_t i = 0; i < m; ++i) {
    const Factors w = BlockFactors(f, m, i);
    u64* block = data + 4 * quarter * i;
    for (size_t j = 0; j < quarter; j += kLanes)
      OnFour(block + j, quarter, [&](Real(&x)[4]) { ForwardFour<kCentre>(x, w, c); });
  }
}

void InversePass(u64* data, size_t m, size_t quarter, const u64* f, const Constants& c) {
  for (size_t i = 0; i < m; ++i) {
    const Factors w = BlockFactors(f, m, i);
    u64* block = data + 4 * quarter * i;
    for (size_t j = 0; j < quarter; j += kLanes)
      OnFour(block + j, quarter, [&](Real(&x)[4]) { InverseFour(x, w, c); });
  }
}

// The first pass, on words: one stage where the number of stages is odd, two otherwise.
void ForwardFirst(u64* out, const u64* in, size_t n, bool odd, const u64* f, const Constants& c) {
  const Factors w = BlockFactors(f, 1, 0);
  for (size_t j = 0; odd && j < n / 2; j += kLanes) {
    Real x = Load(in + j), y = Load(in + j + n / 2);
    ForwardButterfly<true>(x, y, w.wide, c);
    StoreReal(out + j, x);
    StoreReal(out + j + n / 2, y);
  }
  for (size_t j = 0; !odd && j < n / 4; j += kLanes) {
    Real x[4];
    for (size_t k = 0; k < 4; ++k) x[k] = Load(in + j + k * (n / 4));
    ForwardFour<false>(x, w, c);
    for (size_t k = 0; k < 4; ++k) StoreReal(out + j + k * (n / 4), x[k]);
  }
}

// The last pass of the inverse, to words. scale: 1/N and the caller's factor.
void InverseLast(u64* out, size_t n, bool odd, u64 scale, const NttTables& tables,
                 const Constants& c) {
  const Modulus& q = tables.modulus();
  const u64* power = tables.inverse().power;
  const auto scaled = [&](u64 factor) { return Factor(q.Mul(scale, factor), q); };
  const Real plain = scaled(1), wide = scaled(power[1]);
  for (size_t j = 0; odd && j < n / 2; j += kLanes) {
    const Real x = LoadReal(out + j), y = LoadReal(out + j + n / 2);
    Store(out + j, AddIfNegative(MulLazy(_mm256_add_pd(x, y), plain, c), c));
    Store(out + j + n / 2, AddIfNegative(MulLazy(_mm256_sub_pd(x, y), wide, c), c));
  }
  if (odd) return;
  const Real first = scaled(power[2]), second = scaled(power[3]), rest = Factor(power[1], q);
  for (size_t j = 0; j < n / 4; j += kLanes) {
    Real x[4];
    for (size_t k = 0; k < 4; ++k) x[k] = LoadReal(out + j + k * (n / 4));
    InverseButterfly<false>(x[0], x[1], first, c);
    InverseButterfly<false>(x[2], x[3], second, c);
    const Real sum = MulLazy(_mm256_add_pd(x[0], x[2]), plain, c);
    x[2] = MulLazy(_mm256_sub_pd(x[0], x[2]), wide, c);
    x[0] = sum;
    InverseButterfly<false>(x[1], x[3], rest, c);
    for (size_t k = 0; k < 4; ++k) Store(out + j + k * (n / 4), Normalise(x[k], c));
  }
}

// Rows 0..3 to columns in the order of rows 0, 2, 1, 3: column k holds word k of each row.
PV_ALWAYS_INLINE void ToColumns(Real (&x)[4]) {
  const Real low02 = _mm256_unpacklo_pd(x[0], x[2]), high02 = _mm256_unpackhi_pd(x[0], x[2]);
  const Real low13 = _mm256_unpacklo_pd(x[1], x[3]), high13 = _mm256_unpackhi_pd(x[1], x[3]);
  x[0] = _mm256_permute2f128_pd(low02, low13, 0x20);
  x[1] = _mm256_permute2f128_pd(high02, high13, 0x20);
  x[2] = _mm256_permute2f128_pd(low02, low13, 0x31);
  x[3] = _mm256_permute2f128_pd(high02, high13, 0x31);
}
PV_ALWAYS_INLINE void ToRows(Real (&x)[4]) {
  const Real low01 = _mm256_unpacklo_pd(x[0], x[1]), high01 = _mm256_unpackhi_pd(x[0], x[1]);
  const Real low23 = _mm256_unpacklo_pd(x[2], x[3]), high23 = _mm256_unpackhi_pd(x[2], x[3]);
  x[0] = _mm256_permute2f128_pd(low01, low23, 0x20);
  x[1] = _mm256_permute2f128_pd(low01, low23, 0x31);
  x[2] = _mm256_permute2f128_pd(high01, high23, 0x20);
  x[3] = _mm256_permute2f128_pd(high01, high23, 0x31);
}

// The factors of the four groups of a leaf in the order 0, 2, 1, 3.
PV_ALWAYS_INLINE Factors LeafFactors(const u64* f, size_t n, size_t leaf) {
  const size_t group = n / 4 + 4 * leaf;
  const Real low = LoadReal(f + 2 * group), high = LoadReal(f + 2 * group + kLanes);
  return {_mm256_permute4x64_pd(LoadReal(f + group), 0xd8), _mm256_unpacklo_pd(low, high),
          _mm256_unpackhi_pd(low, high)};
}

template <bool kCentre>
void ForwardBlocks(u64* data, size_t n, const u64* f, const Constants& c) {
  constexpr size_t kLeaves = kBlockWords / kLeafWords;
  for (size_t block = 0; block < n / kLeafWords; block += kLeaves) {
    for (size_t leaf = block; leaf < block + kLeaves; ++leaf)
      OnFour(data + leaf * kLeafWords, kLanes, [&](Real(&x)[4]) {
        ForwardFour<kCentre>(x, BlockFactors(f, n / kLeafWords, leaf), c);
      });
    for (size_t leaf = block; leaf < block + kLeaves; ++leaf)
      OnFour(data + leaf * kLeafWords, kLanes, [&](Real(&x)[4]) {
        ToColumns(x);
        ForwardFour<false>(x, LeafFactors(f, n, leaf), c);
        ToRows(x);
        for (Real& v : x) v = _mm256_castsi256_pd(ToWords(Normalise(v, c)));
      });
  }
}

void InverseBlocks(u64* out, const u64* in, size_t n, const u64* f, const Constants& c) {
  constexpr size_t kLeaves = kBlockWords / kLeafWords;
  for (size_t block = 0; block < n / kLeafWords; block += kLeaves) {
    for (size_t leaf = block; leaf < block + kLeaves; ++leaf) {
      Real x[4];
      for (size_t k = 0; k < 4; ++k) x[k] = Load(in + leaf * kLeafWords + k * kLanes);
      ToColumns(x);
      InverseFour(x, LeafFactors(f, n, leaf), c);
      ToRows(x);
      for (size_t k = 0; k < 4; ++k) StoreReal(out + leaf * kLeafWords + k * kLanes, x[k]);
    }
    for (size_t leaf = block; leaf < block + kLeaves; ++leaf)
      OnFour(out + leaf * kLeafWords, kLanes,
             [&](Real(&x)[4]) { InverseFour(x, BlockFactors(f, n / kLeafWords, leaf), c); });
  }
}

}  // namespace

void ForwardNtt(u64* out, const u64* in, const NttTables& tables) {
  const Constants c(tables.modulus());
  const u64* f = tables.forward_reals();
  const size_t n = tables.n();
  const bool odd = tables.log_n() % 2 == 1;
  ForwardFirst(out, in, n, odd, f, c);
  // Pairs of passes centre in the second; a first pass of two stages was the first of a pair.
  bool centre = !odd;
  size_t m = odd ? 2 : 4;
  for (; m < n / kLeafWords; m *= 4, centre = !centre)
    centre ? ForwardPass<true>(out, m, n / (4 * m), f, c)
           : ForwardPass<false>(out, m, n / (4 * m), f, c);
  centre ? ForwardBlocks<true>(out, n, f, c) : ForwardBlocks<false>(out, n, f, c);
}

void InverseNtt(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  const Modulus& q = tables.modulus();
  const Constants c(q);
  const u64* f = tables.inverse_reals();
  const size_t n = tables.n();
  const bool odd = tables.log_n() % 2 == 1;
  InverseBlocks(out, in, n, f, c);
  for (size_t m = n / (4 * kLeafWords); m >= (odd ? 2 : 4); m /= 4)
    InversePass(out, m, n / (4 * m), f, c);
  InverseLast(out, n, odd, q.Mul(scale, tables.n_inverse()), tables, c);
}

}  // namespace polyveil::backend::avx2
