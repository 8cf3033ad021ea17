// Forward negacyclic NTT in AVX-512 IFMA. Radix-8 (or -4) passes, depth first, so that
// subtransforms run in the nearest cache; the last seven stages work on 128 words held in
// registers. Twiddle tables are read in their compact order: a transform of 512 KB reads 1 MB of
// tables, which often come from memory.
//
// A butterfly is (x, y) -> (x + p, x - p), p = w y mod q in [0, 2q) (Harvey 2014). Only y is
// multiplied, and IFMA multipliers read its low 52 bits: only there must a word be in [0, 2^52).
//   Roomy: 2q log N is added once, sums move by 2q a stage, carries above bit 52 are cut at the
//   end:
//     five instructions. q < 2^45: below 2^45 (4 * 17 + 1) < 2^52.
//   Near: words that stay x are exact 64-bit sums, within 2q 17 of the 64q added once: 6
//     instructions. Before they become y, x = k 2^b + r is replaced by x - k q + q, and p by
//     p - q: (q + r + k (2^b - q)) -+ (p - q) is in [0, 2q + 2^b + 2^b 99 / 256), below 2^52 for b
//     <= 50: 8 instructions.
//   Tight: x is brought below 2q, words stay in [0, 4q): 9 instructions.
#include "backend/cpu_simd/ntt_avx512.h"

#include "backend/cpu_simd/ntt_blocks_avx512.h"

namespace polyveil::backend::avx512 {
namespace {

using ring::Modulus;
using ring::NttTables;
using ring::TwiddleTable;

constexpr int kRoomyBits = 45;

struct Context {
  const TwiddleTable& t;
  size_t n;
  Constants c;
  Vec one, bias, inv52;
  __m128i bits;
  Twiddle unit2, unit1;

  PV_ALWAYS_INLINE Context(const NttTables& tables, Form form)
      : t(tables.forward()),
        n(tables.n()),
        c(tables.modulus()),
        one(Set(1)),
        bias(Set((form == Form::kRoomy ? 2 * tables.log_n() : 64) * tables.modulus().q)),
        inv52(Set(tables.modulus().inv52)),
        bits(_mm_cvtsi32_si128(tables.modulus().bits)),
        unit2(UnitLanes(t, {0, 0, 1, 1})),
        unit1(UnitLanes(t, {0, 2, 1, 3})) {}
};

// What the two words of a butterfly are next.
enum class Next { kSum, kFactor, kClean };  // x again; y; both in [0, 4q), exactly

// kCount butterflies of one stage on the words x, from number kBegin on: blocks of 2 kHalf words,
// w[block].
template <Form kForm, size_t kBegin, size_t kCount, size_t kHalf, Next kLast>
struct Stage {
  static constexpr size_t Block(size_t i) { return (kBegin + i) / kHalf; }
  static constexpr size_t X(size_t i) { return 2 * Block(i) * kHalf + (kBegin + i) % kHalf; }
  static constexpr size_t Y(size_t i) { return X(i) + kHalf; }
  static constexpr Next NextOf(size_t i) {
    if (kHalf == 1) return kLast;
    return (kBegin + i) % kHalf < kHalf / 2 ? Next::kSum : Next::kFactor;
  }

  PV_ALWAYS_INLINE static void Run(Vec* x, const Twiddle* w, const Context& context) {
    if constexpr (kForm == Form::kRoomy) {
      Roomy(x, w, context.c);
    } else if constexpr (kForm == Form::kNear) {
      Near(x, w, context);
    } else {
      Tight(x, w, context.c);
    }
  }

 private:
  PV_ALWAYS_INLINE static void Roomy(Vec* x, const Twiddle* w, const Constants& c) {
    Vec e[kCount], p[kCount];
    PV_EACH(i, kCount) { e[i] = High(Zero(), x[Y(i)], w[Block(i)].quotient); }
    PV_EACH(i, kCount) { p[i] = Low(x[X(i)], x[Y(i)], w[Block(i)].power); }
    PV_EACH(i, kCount) { x[Y(i)] = Add(x[X(i)], x[X(i)]); }
    PV_EACH(i, kCount) { x[X(i)] = Low(p[i], e[i], c.neg_q); }
    PV_EACH(i, kCount) { x[Y(i)] = Sub(x[Y(i)], x[X(i)]); }
  }

  // x, y in [0, 4q), out [0, 4q).
  PV_ALWAYS_INLINE static void Tight(Vec* x, const Twiddle* w, const Constants& c) {
    Vec e[kCount], p[kCount];
    PV_EACH(i, kCount) { x[X(i)] = SubIfNotBelow(x[X(i)], c.two_q); }
    PV_EACH(i, kCount) { e[i] = High(Zero(), x[Y(i)], w[Block(i)].quotient); }
    PV_EACH(i, kCount) { p[i] = Low(Zero(), x[Y(i)], w[Block(i)].power); }
    PV_EACH(i, kCount) { p[i] = And(Low(p[i], e[i], c.neg_q), c.mask); }
    PV_EACH(i, kCount) {
      x[Y(i)] = Sub(Add(x[X(i)], c.two_q), p[i]);
      x[X(i)] = Add(x[X(i)], p[i]);
    }
  }

  PV_ALWAYS_INLINE static void Near(Vec* x, const Twiddle* w, const Context& context) {
    const Constants& c = context.c;
    Vec k[kCount], e[kCount], p[kCount];
    PV_EACH(i, kCount) {
      if (NextOf(i) != Next::kSum) k[i] = _mm512_sra_epi64(x[X(i)], context.bits);
    }
    PV_EACH(i, kCount) {
      const Vec start = NextOf(i) == Next::kFactor ? context.one : Zero();
      e[i] = High(start, x[Y(i)], w[Block(i)].quotient);
    }
    PV_EACH(i, kCount) {
      if (NextOf(i) != Next::kSum) x[X(i)] = Low(x[X(i)], k[i], c.neg_q);
      if (NextOf(i) == Next::kFactor) x[X(i)] = Add(x[X(i)], c.q);
      if (NextOf(i) == Next::kClean) x[X(i)] = And(x[X(i)], c.mask);
    }
    PV_EACH(i, kCount) {
      const Vec start = NextOf(i) == Next::kFactor ? x[X(i)] : Zero();
      p[i] = Low(start, x[Y(i)], w[Block(i)].power);
    }
    PV_EACH(i, kCount) { p[i] = Low(p[i], e[i], c.neg_q); }
    PV_EACH(i, kCount) {
      const Vec a = x[X(i)];
      if (NextOf(i) == Next::kFactor) {  // p holds the sum
        x[X(i)] = p[i];
        x[Y(i)] = Sub(Add(a, a), p[i]);
      } else {
        p[i] = And(p[i], c.mask);
        x[X(i)] = Add(a, p[i]);
        x[Y(i)] = Sub(NextOf(i) == Next::kClean ? Add(a, c.two_q) : a, p[i]);
      }
    }
  }
};

// kStages (2 or 3) stages on the columns [begin, end) of a block of kRadix rows. kFirst: of the
// whole transform. kLast: what the columns' words are in the next pass.
template <Form kForm, int kStages, bool kFirst, Next kLast>
PV_ALWAYS_INLINE void Columns(u64* out, const u64* in, size_t stride, size_t begin, size_t end,
                              const Twiddle* w, const Context& context) {
  constexpr size_t kRadix = size_t{1} << kStages;
  for (size_t j = begin; j < end; j += kLanes) {
    Vec x[kRadix];
    PV_EACH(k, kRadix) { x[k] = Load(in + k * stride + j); }
    if constexpr (kFirst && kForm != Form::kTight) PV_EACH(k, kRadix / 2) {
        x[k] = Add(x[k], context.bias);
      }
    Stage<kForm, 0, kRadix / 2, kRadix / 2, kLast>::Run(x, w + 1, context);
    Stage<kForm, 0, kRadix / 2, kRadix / 4, kLast>::Run(x, w + 2, context);
    if constexpr (kStages == 3) Stage<kForm, 0, 4, 1, kLast>::Run(x, w + 4, context);
    PV_EACH(k, kRadix) { Store(out + k * stride + j, x[k]); }
  }
}

// A pass on one block of `words` words, `node` in the table's tree of factors.
template <Form kForm, int kStages, bool kFirst>
PV_ALWAYS_INLINE void Pass(u64* out, const u64* in, size_t words, size_t node,
                           const Context& context) {
  constexpr size_t kRadix = size_t{1} << kStages;
  const size_t stride = words / kRadix;
  Twiddle w[kRadix];
  BroadcastBelow(context.t, node, w);
  // The first half of each row are the next pass's x, the second half its y.
  Columns<kForm, kStages, kFirst, Next::kSum>(out, in, stride, 0, stride / 2, w, context);
  Columns<kForm, kStages, kFirst, Next::kFactor>(out, in, stride, stride / 2, stride, w, context);
}

template <Form kForm, size_t kHalf>
PV_ALWAYS_INLINE void LeafStage(Vec* x, size_t node, const Context& context) {
  constexpr size_t kBlocks = kLeafVectors / 2 / kHalf;
  Twiddle w[kBlocks];
  PV_EACH(i, kBlocks) { w[i] = Broadcast(context.t, kBlocks * node + i); }
  Stage<kForm, 0, 4, kHalf, Next::kClean>::Run(x, w, context);
  Stage<kForm, 4, 4, kHalf, Next::kClean>::Run(x, w, context);
}

// One in-vector stage on the pairs of vectors x[2i], x[2i + 1]. y is first multiplied by the root
// of its group, then by the lane's unit; at distance 4 there is the root only.
template <Form kForm>
PV_ALWAYS_INLINE void LaneStage(Vec* x, size_t first_root, const Twiddle* unit,
                                const Context& context) {
  constexpr size_t kPairs = kLeafVectors / 2;
  constexpr Form kLaneForm = kForm == Form::kRoomy ? Form::kRoomy : Form::kTight;
  Twiddle w[kPairs];
  PV_EACH(i, kPairs) { w[i] = Alternate(context.t, first_root + 2 * i); }
  if (unit) {
    Vec e[kPairs], p[kPairs];
    PV_EACH(i, kPairs) { e[i] = High(Zero(), x[2 * i + 1], w[i].quotient); }
    PV_EACH(i, kPairs) { p[i] = Low(Zero(), x[2 * i + 1], w[i].power); }
    PV_EACH(i, kPairs) { x[2 * i + 1] = Low(p[i], e[i], context.c.neg_q); }
    PV_EACH(i, kPairs) { w[i] = *unit; }
  }
  Stage<kLaneForm, 0, kPairs, 1, Next::kClean>::Run(x, w, context);
}

// The last seven stages on leaf `leaf` of n / 128, fully reduced.
template <Form kForm>
PV_ALWAYS_INLINE void Leaf(u64* out, size_t leaf, const Context& context) {
  constexpr size_t kPairs = kLeafVectors / 2;
  const Constants& c = context.c;
  const size_t n = context.n, node = n / kLeafWords + leaf, group = leaf * kLeafVectors;
  PrefetchTail(context.t, n, group);
  Vec x[kLeafVectors];
  PV_EACH(k, kLeafVectors) { x[k] = Load(out + k * kLanes); }
  LeafStage<kForm, 8>(x, node, context);
  LeafStage<kForm, 4>(x, node, context);
  LeafStage<kForm, 2>(x, node, context);
  LeafStage<kForm, 1>(x, node, context);
  PV_EACH(i, kPairs) { SplitHalves(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, n / 8 + group, nullptr, context);
  PV_EACH(i, kPairs) { ExchangeHalves(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, n / 4 + group, &context.unit2, context);
  PV_EACH(i, kPairs) { ExchangeAlternate(x[2 * i], x[2 * i + 1]); }
  LaneStage<kForm>(x, 3 * n / 8 + group, &context.unit1, context);
  PV_EACH(k, kLeafVectors) {
    x[k] = kForm == Form::kRoomy ? Reduce52(x[k], context.inv52, c)
                                 : SubIfNotBelow(SubIfNotBelow(x[k], c.two_q), c.q);
  }
  PV_EACH(i, kPairs) { SwapSingles(x[2 * i], x[2 * i + 1]); }
  PV_EACH(k, kLeafVectors) { Store(out + k * kLanes, x[k]); }
}

// node: 1 for the whole transform, 2 node and 2 node + 1 for its halves, as in the table.
template <Form kForm, bool kFirst>
void Run(u64* out, const u64* in, int log_words, size_t node, const Context& context) {
  const size_t words = size_t{1} << log_words;
  if constexpr (!kFirst) {
    if (words == kLeafWords) return Leaf<kForm>(out, node - context.n / kLeafWords, context);
  }
  const int stages = PassStages(log_words);
  if (stages == 3) {
    Pass<kForm, 3, kFirst>(out, in, words, node, context);
  } else {
    Pass<kForm, 2, kFirst>(out, in, words, node, context);
  }
  const size_t child_words = words >> stages;
  for (size_t i = 0; i < (size_t{1} << stages); ++i) {
    u64* child = out + i * child_words;
    Run<kForm, false>(child, child, log_words - stages, (node << stages) + i, context);
  }
}

template <Form kForm>
void Transform(u64* out, const u64* in, const NttTables& tables) {
  Run<kForm, true>(out, in, tables.log_n(), 1, Context(tables, kForm));
}

}  // namespace

void ForwardNtt(u64* out, const u64* in, const NttTables& tables) {
  switch (FormOf(tables.modulus(), kRoomyBits)) {
    case Form::kRoomy:
      return Transform<Form::kRoomy>(out, in, tables);
    case Form::kNear:
      return Transform<Form::kNear>(out, in, tables);
    case Form::kTight:
      return Transform<Form::kTight>(out, in, tables);
  }
}

}  // namespace polyveil::backend::avx512
