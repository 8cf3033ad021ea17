// Inverse negacyclic NTT in AVX-512 IFMA: the mirror image of ntt_avx512.cc. The first seven stages
// work on 128 words held in registers; the last stage carries the caller's factor and 1 / N.
//
// A butterfly is (x, y) -> (x + y, w (x - y)) (Gentleman and Sande). Only the difference is
// multiplied: there it must be in [0, 2^52), as IFMA multipliers read the low 52 bits.
//   Roomy: sums double a stage, from q to 128q < 2^52 in a leaf's seven, reduced once per pass;
//     differences get the bound of y added. q < 2^44.
//   Near: a product has a start value: +q where it is x next, -q where it is y, so that sums of two
//     are in [0, 4q) and differences in (0, 4q) without an addition. Sums then grow as exact 64-bit
//     words, to 32q in a leaf. Differences of sums of two lose 4q by comparison, differences d =
//     k 2^b + r of longer ones lose k q, which leaves r + k (2^b - q) + q in (0, 2^b + 2q). At the
//     end of a pass sums lose their multiples of q too.
//   Tight: words stay in [0, 2q).
#include "backend/cpu_simd/ntt_avx512.h"
#include "backend/cpu_simd/ntt_blocks_avx512.h"

namespace polyveil::backend::avx512 {
namespace {

using ring::Modulus;
using ring::NttTables;
using ring::ShoupFactor;
using ring::TwiddleTable;

constexpr int kRoomyBits = 44;
constexpr size_t kPrefetchLeaves = 4;  // the words often come from memory

PV_ALWAYS_INLINE Twiddle SetFactor(const ShoupFactor& f) { return {Set(f.value), Set(f.quotient)}; }

struct Context {
  const TwiddleTable& t;
  size_t n;
  Constants c;
  Vec inv52, four_q;
  Vec bounds[8];  // roomy: q << i, the bound of a word i stages after a full reduction; else 2q
  __m128i bits;
  Twiddle unit1, unit2;
  Twiddle sum, difference;  // factors of the last stage

  PV_ALWAYS_INLINE Context(const NttTables& tables, u64 scale, Form form)
      : t(tables.inverse()),
        n(tables.n()),
        c(tables.modulus()),
        inv52(Set(tables.modulus().inv52)),
        four_q(Set(4 * tables.modulus().q)),
        bits(_mm_cvtsi32_si128(tables.modulus().bits)),
        unit1(UnitLanes(t, {0, 2, 1, 3})),
        unit2(UnitLanes(t, {0, 1, 0, 1})) {
    const Modulus& q = tables.modulus();
    for (size_t i = 0; i < 8; ++i) bounds[i] = Set(form == Form::kRoomy ? q.q << i : 2 * q.q);
    const u64 factor = q.Mul(scale, tables.n_inverse());
    sum = SetFactor(q.Shoup(factor));
    difference = SetFactor(q.Shoup(q.Mul(factor, t.power[1])));
  }
  // The start value of a product that is the next stage's x (even) or y (odd).
  PV_ALWAYS_INLINE Vec Start(size_t parity) const { return parity % 2 ? Sub(Zero(), c.q) : c.q; }
  // x < 2^52 in the low 52 bits -> [0, 2q)
  PV_ALWAYS_INLINE Vec ReduceLazy(Vec x) const {
    return And(Low(x, High(Zero(), x, inv52), c.neg_q), c.mask);
  }
  // x = k 2^bits + r, exact -> r + k (2^bits - q) in the low 52 bits
  PV_ALWAYS_INLINE Vec DropMultiples(Vec x) const {
    return Low(x, _mm512_sra_epi64(x, bits), c.neg_q);
  }
};

// kCount butterflies of one stage on the words x, from number kBegin on: blocks of 2 kHalf words,
// w[block]. kFlat: near words come in [0, 2q), as in the tight form. kLast: of a pass: products get
// the start value `start`, sums are reduced.
template <Form kForm, size_t kBegin, size_t kCount, size_t kHalf, bool kFlat, bool kLast>
struct Stage {
  static constexpr size_t Block(size_t i) { return (kBegin + i) / kHalf; }
  static constexpr size_t X(size_t i) { return 2 * Block(i) * kHalf + (kBegin + i) % kHalf; }
  static constexpr size_t Y(size_t i) { return X(i) + kHalf; }
  // How many sums in a row the two words are since the pass began or they were multiplied.
  static constexpr int Sums(size_t i) {
    int sums = 0;
    for (size_t bit = kHalf / 2; bit > 0 && ((kBegin + i) & bit) == 0; bit /= 2) ++sums;
    return sums;
  }

  // `step`: stages since the last full reduction.
  PV_ALWAYS_INLINE static void Run(Vec* x, const Twiddle* w, size_t step, Vec start,
                                   const Context& context) {
    if constexpr (kForm == Form::kNear) {
      Near(x, w, start, context);
    } else {
      Bounded(x, w, context.bounds[step], context);
    }
  }

  // x -> x + y, y -> x - y as factors below 2^52; the sums are exact unless kLast.
  PV_ALWAYS_INLINE static void NearDifferences(Vec* x, const Context& context) {
    const Constants& c = context.c;
    Vec d[kCount];
    PV_EACH(i, kCount) { d[i] = Sub(x[X(i)], x[Y(i)]); }
    PV_EACH(i, kCount) { x[X(i)] = Add(x[X(i)], x[Y(i)]); }
    PV_EACH(i, kCount) {
      if (Sums(i) == 0 && kFlat) d[i] = Add(d[i], c.two_q);
      if (Sums(i) == 0 && !kFlat) x[X(i)] = And(x[X(i)], c.mask);
      if (Sums(i) == 1) d[i] = _mm512_min_epu64(d[i], Add(d[i], context.four_q));
      if (Sums(i) > 1) d[i] = Add(context.DropMultiples(d[i]), c.q);
    }
    PV_EACH(i, kCount) { x[Y(i)] = d[i]; }
  }

 private:
  PV_ALWAYS_INLINE static void Near(Vec* x, const Twiddle* w, Vec start, const Context& context) {
    const Constants& c = context.c;
    Vec e[kCount], p[kCount];
    NearDifferences(x, context);
    PV_EACH(i, kCount) { e[i] = High(Zero(), x[Y(i)], w[Block(i)].quotient); }
    PV_EACH(i, kCount) {
      p[i] = Low(kLast ? start : context.Start(Block(i)), x[Y(i)], w[Block(i)].power);
    }
    if (kLast) {
      PV_EACH(i, kCount) { x[X(i)] = Add(context.DropMultiples(x[X(i)]), start); }
    }
    PV_EACH(i, kCount) { x[Y(i)] = Low(p[i], e[i], c.neg_q); }
  }

  // Roomy: x, y in [0, bound), x + y below 2 bound, the product below 2q, all in the low 52 bits.
  // Tight: in and out in [0, 2q).
  PV_ALWAYS_INLINE static void Bounded(Vec* x, const Twiddle* w, Vec bound,
                                       const Context& context) {
    const Constants& c = context.c;
    constexpr bool kRoomy = kForm == Form::kRoomy;
    Vec d[kCount], e[kCount], p[kCount];
    PV_EACH(i, kCount) { d[i] = Sub(Add(x[X(i)], bound), x[Y(i)]); }
    PV_EACH(i, kCount) {
      const Vec sum = Add(x[X(i)], x[Y(i)]);
      x[X(i)] = kRoomy ? sum : SubIfNotBelow(sum, c.two_q);
    }
    PV_EACH(i, kCount) { e[i] = High(Zero(), d[i], w[Block(i)].quotient); }
    PV_EACH(i, kCount) { p[i] = Low(Zero(), d[i], w[Block(i)].power); }
    PV_EACH(i, kCount) {
      const Vec product = Low(p[i], e[i], c.neg_q);
      x[Y(i)] = kRoomy ? product : And(product, c.mask);
    }
    if (kRoomy && kLast) {
      PV_EACH(i, kCount) { x[X(i)] = context.ReduceLazy(x[X(i)]); }
    }
  }
};

// The whole transform's last stage on kRadix words: factors `sum` and `difference`, full reduction.
template <Form kForm, size_t kRadix>
PV_ALWAYS_INLINE void FinalStage(Vec* x, Vec bound, const Context& context) {
  constexpr size_t kHalf = kRadix / 2;
  const Constants& c = context.c;
  if constexpr (kForm == Form::kNear) {
    using Last = Stage<kForm, 0, kHalf, kHalf, false, true>;
    Last::NearDifferences(x, context);
    PV_EACH(k, kHalf) {
      if (Last::Sums(k) > 0) x[k] = context.DropMultiples(x[k]);
    }
  } else {
    PV_EACH(k, kHalf) {
      const Vec a = x[k], b = x[k + kHalf];
      x[k] = Add(a, b);
      x[k + kHalf] = Sub(Add(a, bound), b);
    }
  }
  PV_EACH(k, kRadix) {
    const Twiddle& w = k < kHalf ? context.sum : context.difference;
    x[k] = MulShoup(x[k], w.power, w.quotient, c);
  }
}

// kStages (2 or 3) stages on a block whose last one is `node`.
template <Form kForm, int kStages, bool kFinal>
PV_ALWAYS_INLINE void Pass(u64* out, size_t words, size_t node, const Context& context) {
  constexpr size_t kRadix = size_t{1} << kStages, kPairs = kRadix / 2;
  const size_t stride = words / kRadix;
  const Vec start = context.Start(node);
  Twiddle w[kRadix];
  BroadcastBelow(context.t, node, w);
  for (size_t j = 0; j < stride; j += kLanes) {
    Vec x[kRadix];
    PV_EACH(k, kRadix) { x[k] = Load(out + k * stride + j); }
    Stage<kForm, 0, kPairs, 1, false, false>::Run(x, w + kPairs, 1, start, context);
    if constexpr (kStages == 3)
      Stage<kForm, 0, kPairs, 2, false, false>::Run(x, w + 2, 2, start, context);
    if constexpr (kFinal) {
      FinalStage<kForm, kRadix>(x, context.bounds[kStages], context);
    } else {
      Stage<kForm, 0, kPairs, kPairs, false, true>::Run(x, w + 1, kStages, start, context);
    }
    PV_EACH(k, kRadix) { Store(out + k * stride + j, x[k]); }
  }
}

// One in-vector stage on the pairs of vectors x[2i], x[2i + 1], whose product is taken with the
// root of the group, then with the lane's unit. Words in [0, 2q) unless roomy.
template <Form kForm>
PV_ALWAYS_INLINE void LaneStage(Vec* x, size_t first_root, const Twiddle* unit, size_t step,
                                const Context& context) {
  constexpr size_t kPairs = kLeafVectors / 2;
  constexpr Form kLaneForm = kForm == Form::kRoomy ? Form::kRoomy : Form::kTight;
  Twiddle w[kPairs];
  PV_EACH(i, kPairs) { w[i] = Alternate(context.t, first_root + 2 * i); }
  Stage<kLaneForm, 0, kPairs, 1, false, false>::Run(x, w, step, Zero(), context);
  if (unit == nullptr) return;
  Vec e[kPairs], p[kPairs];
  PV_EACH(i, kPairs) { e[i] = High(Zero(), x[2 * i + 1], unit->quotient); }
  PV_EACH(i, kPairs) { p[i] = Low(Zero(), x[2 * i + 1], unit->power); }
  PV_EACH(i, kPairs) {
    const Vec product = Low(p[i], e[i], context.c.neg_q);
    x[2 * i + 1] = kForm == Form::kRoomy ? product : And(product, context.c.mask);
  }
}

template <Form kForm, size_t kHalf, bool kFlat, bool kLast>
PV_ALWAYS_INLINE void LeafStage(Vec* x, size_t node, size_t step, const Context& context) {
  constexpr size_t kBlocks = kLeafVectors / 2 / kHalf;
  Twiddle w[kBlocks];
  PV_EACH(i, kBlocks) { w[i] = Broadcast(context.t, kBlocks * node + i); }
  const Vec start = context.Start(node);
  Stage<kForm, 0, 4, kHalf, kFlat, kLast>::Run(x, w, step, start, context);
  Stage<kForm, 4, 4, kHalf, kFlat, kLast>::Run(x, w, step, start, context);
}

// The first seven stages on leaf `leaf` of n / 128.
template <Form kForm>
PV_ALWAYS_INLINE void Leaf(u64* out, const u64* in, size_t leaf, const Context& context) {
  constexpr size_t kPairs = kLeafVectors / 2;
  const size_t n = context.n, node = n / kLeafWords + leaf, group = leaf * kLeafVectors;
  PrefetchTail(context.t, n, group);
  Vec x[kLeafVectors];
  PV_EACH(k, kLeafVectors) {
    _mm_prefetch(in + (k + kLeafVectors * kPrefetchLeaves) * kLanes, _MM_HINT_T0);
    x[k] = Load(in + k * kLanes);
  }
  PV_EACH(i, kPairs) { SwapSingles(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, 3 * n / 8 + group, &context.unit1, 0, context);
  PV_EACH(i, kPairs) { ExchangeHalves(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, n / 4 + group, &context.unit2, 1, context);
  PV_EACH(i, kPairs) { ExchangeAlternate(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, n / 8 + group, nullptr, 2, context);
  PV_EACH(i, kPairs) { JoinHalves(x[2 * i], x[2 * i + 1]); }
  LeafStage<kForm, 1, true, false>(x, node, 3, context);
  LeafStage<kForm, 2, false, false>(x, node, 4, context);
  LeafStage<kForm, 4, false, false>(x, node, 5, context);
  LeafStage<kForm, 8, false, true>(x, node, 6, context);
  PV_EACH(k, kLeafVectors) { Store(out + k * kLanes, x[k]); }
}

template <Form kForm>
void Run(u64* out, const u64* in, int log_words, size_t node, const Context& context) {
  const size_t words = size_t{1} << log_words;
  if (words == kLeafWords) return Leaf<kForm>(out, in, node - context.n / kLeafWords, context);
  const int stages = PassStages(log_words);
  const size_t child_words = words >> stages;
  for (size_t i = 0; i < (size_t{1} << stages); ++i)
    Run<kForm>(out + i * child_words, in + i * child_words, log_words - stages,
               (node << stages) + i, context);
  if (stages == 3) {
    node == 1 ? Pass<kForm, 3, true>(out, words, node, context)
              : Pass<kForm, 3, false>(out, words, node, context);
  } else {
    node == 1 ? Pass<kForm, 2, true>(out, words, node, context)
              : Pass<kForm, 2, false>(out, words, node, context);
  }
}

template <Form kForm>
void Transform(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  Run<kForm>(out, in, tables.log_n(), 1, Context(tables, scale, kForm));
}

}  // namespace

void InverseNtt(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  switch (FormOf(tables.modulus(), kRoomyBits)) {
    case Form::kRoomy:
      return Transform<Form::kRoomy>(out, in, tables, scale);
    case Form::kNear:
      return Transform<Form::kNear>(out, in, tables, scale);
    case Form::kTight:
      return Transform<Form::kTight>(out, in, tables, scale);
  }
}

}  // namespace polyveil::backend::avx512
