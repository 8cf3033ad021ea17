// Negacyclic NTT in AVX-512 IFMA. Harvey's lazy butterflies; radix-8 (or -4) passes, depth first,
// so that subtransforms run in the nearest cache; the last seven stages of a forward transform (the
// first of an inverse) work on 128 words held in registers. Twiddle tables are read in their
// compact order and spread by permutes: a transform of 512 KB reads 1 MB of tables, which often
// come from memory.
//
// Two forms. Tight: q < 2^50, every sum is brought back below 2q. Roomy: sums just grow, and
// carries above bit 52, which IFMA multipliers ignore, are cut at the reductions only. Forward, q <
// 2^46: by 2q a stage, to at most 35q < 2^52 after 17 stages, reduced once. Inverse, q < 2^44:
// doubled by each stage, to 128q < 2^52 in the seven of a leaf, reduced once per pass.
#include "backend/cpu_simd/ntt_avx512.h"

#include "backend/cpu_simd/avx512.h"

namespace polyveil::backend::avx512 {
namespace {

using ring::Modulus;
using ring::NttTables;
using ring::ShoupFactor;
using ring::TwiddleTable;

constexpr int kRoomyBits = 46;
constexpr int kRoomyInverseBits = 44;
constexpr size_t kLeafWords = 128;  // 16 vectors: seven stages in registers

struct Twiddle {
  Vec power, quotient;
};

PV_ALWAYS_INLINE Twiddle Broadcast(const TwiddleTable& t, size_t i) {
  return {Set(t.power[i]), Set(t.quotient[i])};
}

// (x, y) -> (x + w y, x - w y). Tight: x, y in [0, 4q), out [0, 4q). Roomy: x below B, out below B
// + 2q.
template <bool kRoomy>
PV_ALWAYS_INLINE void ForwardButterfly(Vec& x, Vec& y, const Twiddle& w, const Constants& c) {
  const Vec product =
      kRoomy ? MulShoupDirty(y, w.power, w.quotient, c) : MulShoupLazy(y, w.power, w.quotient, c);
  const Vec a = kRoomy ? x : SubIfNotBelow(x, c.two_q);
  x = Add(a, product);
  y = Sub(Add(a, c.two_q), product);
}

// (x, y) -> (x + y, w (x - y)). Tight: in and out in [0, 2q). Roomy: x, y in [0, bound), x + y
// below 2 bound, the product below 2q, both in the low 52 bits.
template <bool kRoomy>
PV_ALWAYS_INLINE void InverseButterfly(Vec& x, Vec& y, const Twiddle& w, Vec bound,
                                       const Constants& c) {
  const Vec difference = Sub(Add(x, bound), y);
  const Vec sum = Add(x, y);
  x = kRoomy ? sum : SubIfNotBelow(sum, c.two_q);
  y = kRoomy ? MulShoupDirty(difference, w.power, w.quotient, c)
             : MulShoupLazy(difference, w.power, w.quotient, c);
}

// What an inverse transform carries through its passes.
struct InverseContext {
  Constants c;
  Vec inv52;
  Vec bounds[8];  // roomy: q << i, the bound of a word i stages after a full reduction; tight: 2q

  PV_ALWAYS_INLINE InverseContext(const Modulus& q, bool roomy) : c(q), inv52(Set(q.inv52)) {
    for (size_t i = 0; i < 8; ++i) bounds[i] = Set(q.q << (roomy ? i : 1));
  }
  // x < 2^52 in the low 52 bits -> [0, 2q)
  PV_ALWAYS_INLINE Vec ReduceLazy(Vec x) const {
    return And(Low(x, High(Zero(), x, inv52), c.neg_q), c.mask);
  }
};

// kStages (2 or 3) forward stages on one block of `words` words, block `index` of `blocks`.
template <bool kRoomy, int kStages>
PV_ALWAYS_INLINE void ForwardPass(u64* out, const u64* in, size_t words, size_t node,
                                  const TwiddleTable& t, const Constants& c) {
  constexpr size_t kRadix = size_t{1} << kStages;
  const size_t stride = words / kRadix;
  Twiddle w[kRadix];  // w[1], w[2..3], w[4..7]: the factors below this node
#pragma GCC unroll 4
  for (size_t level = 0; level < kStages; ++level)
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t{1} << level); ++i)
      w[(size_t{1} << level) + i] = Broadcast(t, (node << level) + i);
  for (size_t j = 0; j < stride; j += kLanes) {
    Vec x[kRadix];
#pragma GCC unroll 8
    for (size_t k = 0; k < kRadix; ++k) x[k] = Load(in + k * stride + j);
#pragma GCC unroll 4
    for (size_t level = 0; level < kStages; ++level) {
      const size_t half = kRadix >> (level + 1);
#pragma GCC unroll 8
      for (size_t i = 0; i < (size_t{1} << level); ++i)
#pragma GCC unroll 8
        for (size_t k = 0; k < half; ++k)
          ForwardButterfly<kRoomy>(x[2 * i * half + k], x[(2 * i + 1) * half + k],
                                   w[(size_t{1} << level) + i], c);
    }
#pragma GCC unroll 8
    for (size_t k = 0; k < kRadix; ++k) Store(out + k * stride + j, x[k]);
  }
}

// The mirror image: kStages inverse stages whose last one is `node`. kFinal: the whole transform's
// last pass; its last stage takes its factors from `last` (sum and difference) and reduces fully.
template <bool kRoomy, bool kFinal, int kStages>
PV_ALWAYS_INLINE void InversePass(u64* out, size_t words, size_t node, const TwiddleTable& t,
                                  const Twiddle* last, const InverseContext& context) {
  const Constants& c = context.c;
  constexpr size_t kRadix = size_t{1} << kStages;
  const size_t stride = words / kRadix;
  Twiddle w[kRadix];
#pragma GCC unroll 4
  for (size_t level = 0; level < kStages; ++level)
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t{1} << level); ++i)
      w[(size_t{1} << level) + i] = Broadcast(t, (node << level) + i);
  for (size_t j = 0; j < stride; j += kLanes) {
    Vec x[kRadix];
#pragma GCC unroll 8
    for (size_t k = 0; k < kRadix; ++k) x[k] = Load(out + k * stride + j);
#pragma GCC unroll 4
    for (size_t step = 0; step < kStages - (kFinal ? 1 : 0); ++step) {
      const size_t level = kStages - 1 - step;
      const size_t half = kRadix >> (level + 1);
#pragma GCC unroll 8
      for (size_t i = 0; i < (size_t{1} << level); ++i)
#pragma GCC unroll 8
        for (size_t k = 0; k < half; ++k)
          InverseButterfly<kRoomy>(x[2 * i * half + k], x[(2 * i + 1) * half + k],
                                   w[(size_t{1} << level) + i], context.bounds[step + 1], c);
    }
    if (kRoomy && !kFinal) {
#pragma GCC unroll 8
      for (size_t k = 0; k < kRadix / 2; ++k) x[k] = context.ReduceLazy(x[k]);
    }
    if (kFinal) {
      for (size_t k = 0; k < kRadix / 2; ++k) {
        const Vec a = x[k], b = x[k + kRadix / 2];
        x[k] = MulShoup(Add(a, b), last[0].power, last[0].quotient, c);
        x[k + kRadix / 2] =
            MulShoup(Sub(Add(a, context.bounds[kStages]), b), last[1].power, last[1].quotient, c);
      }
    }
#pragma GCC unroll 8
    for (size_t k = 0; k < kRadix; ++k) Store(out + k * stride + j, x[k]);
  }
}

// The factors of the in-vector stages. Each eight words have one root s: at distance 4 the factor
// s^4, at distance 2 s^2 unit[0..1], at distance 1 s unit[0..3]; the units are constants of the
// table.
PV_ALWAYS_INLINE Twiddle Spread(const TwiddleTable& t, size_t i) {  // two factors, four lanes each
  const Vec index = _mm512_set_epi64(1, 1, 1, 1, 0, 0, 0, 0);
  const __m128i power = _mm_load_si128(reinterpret_cast<const __m128i*>(t.power + i));
  const __m128i quotient = _mm_load_si128(reinterpret_cast<const __m128i*>(t.quotient + i));
  return {_mm512_permutexvar_epi64(index, _mm512_castsi128_si512(power)),
          _mm512_permutexvar_epi64(index, _mm512_castsi128_si512(quotient))};
}

struct Units {
  Twiddle distance2, distance1;

  PV_ALWAYS_INLINE explicit Units(const TwiddleTable& t) {
    alignas(64) u64 words[4][kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      words[0][lane] = t.unit[lane % 4 / 2].value;
      words[1][lane] = t.unit[lane % 4 / 2].quotient;
      words[2][lane] = t.unit[lane % 4].value;
      words[3][lane] = t.unit[lane % 4].quotient;
    }
    distance2 = {Load(words[0]), Load(words[1])};
    distance1 = {Load(words[2]), Load(words[3])};
  }
};

template <bool kRoomy>
PV_ALWAYS_INLINE void ForwardTail(Vec& x, Vec& y, const Twiddle& root, const Twiddle& unit,
                                  const Constants& c) {
  y = MulShoupDirty(y, root.power, root.quotient, c);
  ForwardButterfly<kRoomy>(x, y, unit, c);
}

template <bool kRoomy>
PV_ALWAYS_INLINE void InverseTail(Vec& x, Vec& y, const Twiddle& root, const Twiddle& unit,
                                  Vec bound, const Constants& c) {
  InverseButterfly<kRoomy>(x, y, root, bound, c);
  y = kRoomy ? MulShoupDirty(y, unit.power, unit.quotient, c)
             : MulShoupLazy(y, unit.power, unit.quotient, c);
}

// The tables of the in-vector stages are six streams from far away; ask for them some leaves ahead.
constexpr size_t kPrefetchWords = 64;
PV_ALWAYS_INLINE void PrefetchTail(const TwiddleTable& t, size_t n, size_t group) {
  for (const size_t base : {n / 8, n / 4, 3 * n / 8}) {
    for (size_t line = 0; line < 16; line += kLanes) {
      _mm_prefetch(t.power + base + group + line + kPrefetchWords, _MM_HINT_T0);
      _mm_prefetch(t.quotient + base + group + line + kPrefetchWords, _MM_HINT_T0);
    }
  }
}

// Lanes of the pair (a, b) regrouped so that each in-vector stage is one vertical butterfly.
PV_ALWAYS_INLINE void SplitHalves(Vec& a, Vec& b) {  // a0-3 b0-3 | a4-7 b4-7
  const Vec x = _mm512_shuffle_i64x2(a, b, 0x44);
  b = _mm512_shuffle_i64x2(a, b, 0xEE);
  a = x;
}
PV_ALWAYS_INLINE void SplitPairs(Vec& a, Vec& b) {  // a0 a1 a4 a5 b0 b1 b4 b5 | a2 a3 a6 a7 ...
  const Vec low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
  const Vec high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
  const Vec x = a;
  a = _mm512_permutex2var_epi64(x, low, b);
  b = _mm512_permutex2var_epi64(x, high, b);
}
PV_ALWAYS_INLINE void SplitSingles(Vec& a, Vec& b) {  // evens of both | odds of both
  const Vec x = a;
  a = _mm512_unpacklo_epi64(x, b);
  b = _mm512_unpackhi_epi64(x, b);
}
PV_ALWAYS_INLINE void JoinSingles(Vec& a, Vec& b) {  // back to memory order
  const Vec low = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0);
  const Vec high = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
  const Vec x = a;
  a = _mm512_permutex2var_epi64(x, low, b);
  b = _mm512_permutex2var_epi64(x, high, b);
}

// From memory order to evens | odds. The other three are their own inverses.
PV_ALWAYS_INLINE void FromMemoryToSingles(Vec& a, Vec& b) {
  const Vec low = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
  const Vec high = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
  const Vec x = a;
  a = _mm512_permutex2var_epi64(x, low, b);
  b = _mm512_permutex2var_epi64(x, high, b);
}
template <bool kRoomy>
PV_ALWAYS_INLINE Vec ReduceForward(Vec x, Vec inv52, const Constants& c) {
  if (kRoomy) return Reduce52(x, inv52, c);
  return SubIfNotBelow(SubIfNotBelow(x, c.two_q), c.q);
}

// The last seven stages on leaf `leaf` of n / 128, fully reduced.
template <bool kRoomy>
PV_ALWAYS_INLINE void ForwardLeaf(u64* out, const u64* in, size_t n, size_t leaf,
                                  const TwiddleTable& t, const Units& units, Vec inv52,
                                  const Constants& c) {
  constexpr size_t kVectors = kLeafWords / kLanes;
  const size_t node = n / kLeafWords + leaf;
  PrefetchTail(t, n, leaf * kVectors);
  Vec x[kVectors];
#pragma GCC unroll 16
  for (size_t k = 0; k < kVectors; ++k) x[k] = Load(in + k * kLanes);
#pragma GCC unroll 4
  for (size_t level = 0; level < 4; ++level) {
    const size_t half = kVectors >> (level + 1);
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t{1} << level); ++i) {
      const Twiddle w = Broadcast(t, (node << level) + i);
#pragma GCC unroll 8
      for (size_t k = 0; k < half; ++k)
        ForwardButterfly<kRoomy>(x[2 * i * half + k], x[(2 * i + 1) * half + k], w, c);
    }
  }
#pragma GCC unroll 8
  for (size_t k = 0; k < kVectors; k += 2) {
    const size_t group = leaf * kVectors + k;
    Vec a = x[k], b = x[k + 1];
    SplitHalves(a, b);
    ForwardButterfly<kRoomy>(a, b, Spread(t, n / 8 + group), c);
    SplitPairs(a, b);
    ForwardTail<kRoomy>(a, b, Spread(t, n / 4 + group), units.distance2, c);
    SplitSingles(a, b);
    ForwardTail<kRoomy>(a, b, Spread(t, 3 * n / 8 + group), units.distance1, c);
    a = ReduceForward<kRoomy>(a, inv52, c);
    b = ReduceForward<kRoomy>(b, inv52, c);
    JoinSingles(a, b);
    Store(out + k * kLanes, a);
    Store(out + (k + 1) * kLanes, b);
  }
}

template <bool kRoomy>
PV_ALWAYS_INLINE void InverseLeaf(u64* out, const u64* in, size_t n, size_t leaf,
                                  const TwiddleTable& t, const Units& units,
                                  const InverseContext& context) {
  const Constants& c = context.c;
  constexpr size_t kVectors = kLeafWords / kLanes;
  const size_t node = n / kLeafWords + leaf;
  PrefetchTail(t, n, leaf * kVectors);
  Vec x[kVectors];
#pragma GCC unroll 8
  for (size_t k = 0; k < kVectors; k += 2) {
    const size_t group = leaf * kVectors + k;
    Vec a = Load(in + k * kLanes), b = Load(in + (k + 1) * kLanes);
    FromMemoryToSingles(a, b);
    InverseTail<kRoomy>(a, b, Spread(t, 3 * n / 8 + group), units.distance1, context.bounds[0], c);
    SplitSingles(a, b);
    InverseTail<kRoomy>(a, b, Spread(t, n / 4 + group), units.distance2, context.bounds[1], c);
    SplitPairs(a, b);
    InverseButterfly<kRoomy>(a, b, Spread(t, n / 8 + group), context.bounds[2], c);
    SplitHalves(a, b);
    x[k] = a;
    x[k + 1] = b;
  }
#pragma GCC unroll 4
  for (size_t step = 0; step < 4; ++step) {
    const size_t level = 3 - step;
    const size_t half = kVectors >> (level + 1);
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t{1} << level); ++i) {
      const Twiddle w = Broadcast(t, (node << level) + i);
#pragma GCC unroll 8
      for (size_t k = 0; k < half; ++k)
        InverseButterfly<kRoomy>(x[2 * i * half + k], x[(2 * i + 1) * half + k], w,
                                 context.bounds[3 + step], c);
    }
  }
#pragma GCC unroll 16
  for (size_t k = 0; k < kVectors; ++k)
    Store(out + k * kLanes, kRoomy ? context.ReduceLazy(x[k]) : x[k]);
}

// log2 of the radix of the pass over a block of 2^log_words words: threes, and twos where threes do
// not fit.
PV_ALWAYS_INLINE int PassStages(int log_words) {
  const int above_leaf = log_words - 7;
  return above_leaf % 3 == 0 ? 3 : 2;
}

template <bool kRoomy>
struct Forward {
  const TwiddleTable& t;
  size_t n;
  Constants c;
  Units units;
  Vec inv52;

  // node: 1 for the whole transform, 2 node and 2 node + 1 for its halves, as in the table.
  void Run(u64* out, const u64* in, int log_words, size_t node) const {
    const size_t words = size_t{1} << log_words;
    if (words == kLeafWords) {
      ForwardLeaf<kRoomy>(out, in, n, node - n / kLeafWords, t, units, inv52, c);
      return;
    }
    const int stages = PassStages(log_words);
    if (stages == 3) {
      ForwardPass<kRoomy, 3>(out, in, words, node, t, c);
    } else {
      ForwardPass<kRoomy, 2>(out, in, words, node, t, c);
    }
    const size_t child_words = words >> stages;
    for (size_t i = 0; i < (size_t{1} << stages); ++i) {
      u64* child = out + i * child_words;
      Run(child, child, log_words - stages, (node << stages) + i);
    }
  }
};

template <bool kRoomy>
struct Inverse {
  const TwiddleTable& t;
  size_t n;
  InverseContext context;
  Units units;
  Twiddle last[2];

  void Run(u64* out, const u64* in, int log_words, size_t node) const {
    const size_t words = size_t{1} << log_words;
    if (words == kLeafWords) {
      InverseLeaf<kRoomy>(out, in, n, node - n / kLeafWords, t, units, context);
      return;
    }
    const int stages = PassStages(log_words);
    const size_t child_words = words >> stages;
    for (size_t i = 0; i < (size_t{1} << stages); ++i)
      Run(out + i * child_words, in + i * child_words, log_words - stages, (node << stages) + i);
    if (node == 1) {
      Pass<true>(out, words, node, stages);
    } else {
      Pass<false>(out, words, node, stages);
    }
  }

  template <bool kFinal>
  PV_ALWAYS_INLINE void Pass(u64* out, size_t words, size_t node, int stages) const {
    if (stages == 3) {
      InversePass<kRoomy, kFinal, 3>(out, words, node, t, last, context);
    } else {
      InversePass<kRoomy, kFinal, 2>(out, words, node, t, last, context);
    }
  }
};

}  // namespace

void ForwardNtt(u64* out, const u64* in, const NttTables& tables) {
  const Modulus& q = tables.modulus();
  const TwiddleTable& t = tables.forward();
  if (q.bits <= kRoomyBits) {
    Forward<true>{t, tables.n(), Constants(q), Units(t), Set(q.inv52)}.Run(out, in, tables.log_n(),
                                                                           1);
  } else {
    Forward<false>{t, tables.n(), Constants(q), Units(t), Set(q.inv52)}.Run(out, in, tables.log_n(),
                                                                            1);
  }
}

void InverseNtt(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  const Modulus& q = tables.modulus();
  const TwiddleTable& t = tables.inverse();
  const u64 factor = q.Mul(scale, tables.n_inverse());
  const ShoupFactor sum = q.Shoup(factor);
  const ShoupFactor difference = q.Shoup(q.Mul(factor, t.power[1]));
  const Twiddle last[] = {{Set(sum.value), Set(sum.quotient)},
                          {Set(difference.value), Set(difference.quotient)}};
  const Units units(t);
  if (q.bits <= kRoomyInverseBits) {
    Inverse<true>{t, tables.n(), InverseContext(q, true), units, {last[0], last[1]}}.Run(
        out, in, tables.log_n(), 1);
  } else {
    Inverse<false>{t, tables.n(), InverseContext(q, false), units, {last[0], last[1]}}.Run(
        out, in, tables.log_n(), 1);
  }
}

}  // namespace polyveil::backend::avx512
