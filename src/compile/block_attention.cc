#include "compile/approximant_lowering.h"
#include "compile/attention_forms.h"
#include "compile/block_context.h"
#include "compile/layout.h"
#include "compile/real_map.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

// value(element, head) at `slot` of every attention row.
template <typename F>
void FillAttentionSlot(const BlockContext& c, int slot, F&& value, Vector& out) {
  out.resize(c.l.slots);
  for (int e = 0; e < c.l.d_head; ++e)
    for (int h = 0; h < c.shape.n_heads; ++h)
      out[c.l.AttentionRow(e, h) * c.l.attention.size + slot] += value(e, h);
}

// value(h) at slots first..last of every head; period: one element of every head.
template <typename F>
Vector HeadMask(const BlockContext& c, int first, int last, F&& value) {
  Vector mask(c.l.element_stride());
  for (int h = 0; h < c.l.heads; ++h)
    for (int k = first; k <= last; ++k) mask[h * c.l.attention.size + k] = value(h);
  return mask;
}

struct BlockQkv {
  NodeId query = -1;
  std::vector<NodeId> caches;  // by chunk, this token's key and value included
};

// The constant tokens' part of a chunk; nothing where it has none.
NodeId AddPrefix(BlockContext& c, NodeId cache, int chunk, const BlockUnits& units) {
  const model::Block& block = c.place.block;
  const int half = c.l.keys(), first = chunk * half;
  Vector constant;
  for (int k = first; k < std::min(block.prefix(), first + half); ++k) {
    const size_t row = static_cast<size_t>(k) * c.shape.kv_width();
    const auto at = [&](int e, int h) { return row + c.shape.KvHead(h) * c.shape.d_head + e; };
    FillAttentionSlot(
        c, k - first, [&](int e, int h) { return block.prefix_keys[at(e, h)] / units.key; },
        constant);
    FillAttentionSlot(
        c, k - first + half,
        [&](int e, int h) { return block.prefix_values[at(e, h)] / units.value; }, constant);
  }
  if (constant.empty()) return cache;
  return c.b.AddPlain(fmt::format("cache {} with prefix", chunk), cache, std::move(constant));
}

BlockQkv LowerBlockQkv(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                       const Biases& biases) {
  c.Enter(Component::kQkv, "attention");
  GraphBuilder& b = c.b;
  const int half = c.l.keys();
  NodeId products =
      b.Linear("qkv products", x, QkvMap(c.place.block, c.l, units, c.place.position), false);
  NodeId qkv = b.RotateSum("qkv sums", products, DoublingRotations(1, Log2(c.l.attention.window)));
  NodeId conjugate = b.Conjugate("qkv conjugate", qkv);

  Vector mask = HeadMask(c, c.slot(), c.slot(), [](int) { return 0.5; });
  for (int h = 0; h < c.l.heads; ++h) mask[h * c.l.attention.size + c.slot() + half] = 0.5;
  NodeId masked = b.MulPlain("kv masked", b.Add("kv sums", qkv, conjugate), std::move(mask));
  b.SetReal(masked, true);
  Vector kv_bias;
  if (c.shape.biases) {
    const auto at = [&](int h) { return static_cast<size_t>(c.shape.KvHead(h)) * c.shape.d_head; };
    FillAttentionSlot(
        c, c.slot(), [&](int e, int h) { return biases.k[at(h) + e] / units.key; }, kv_bias);
    FillAttentionSlot(
        c, c.slot() + half, [&](int e, int h) { return biases.v[at(h) + e] / units.value; },
        kv_bias);
  }
  NodeId key_value =
      AddBias(c, "key and value", b.Mul("kv scaled", masked, root), std::move(kv_bias));

  BlockQkv result;
  for (int chunk = 0; chunk < c.l.chunks; ++chunk) {
    const int state = c.place.index * c.l.chunks + chunk;
    NodeId cache = b.State(fmt::format("cache {} before", chunk), state, Log2(c.l.slots));
    if (chunk == c.chunk()) cache = b.Add(fmt::format("cache {}", chunk), cache, key_value);
    b.graph().updates.push_back({state, cache});
    result.caches.push_back(AddPrefix(c, cache, chunk, units));
  }
  NodeId q_masked =
      b.MulPlain("query masked", b.Sub("query sums", qkv, conjugate),
                 HeadMask(c, half - 1, half - 1, [&](int h) -> Complex {
                   return h < c.shape.n_heads ? Complex(0, -0.5 * c.ScoreUnit(h)) : Complex(0);
                 }));
  b.SetReal(q_masked, true);
  Vector q_bias;
  if (c.shape.biases) {
    FillAttentionSlot(
        c, half - 1,
        [&](int e, int h) {
          return biases.q[static_cast<size_t>(h) * c.shape.d_head + e] * units.key * c.ScoreUnit(h);
        },
        q_bias);
  }
  NodeId query =
      AddBias(c, "query biased", b.Mul("query scaled", q_masked, root), std::move(q_bias));
  // From the last slot of its half to all of it: the same query for every chunk.
  result.query = b.RotateSum("query", query, DoublingRotations(1, Log2(half)));
  return result;
}

// (s + c)^p / (kappa N) at the chunk's keys up to this position, zero elsewhere.
NodeId LowerChunkPowers(BlockContext& c, NodeId query, NodeId cache, int chunk) {
  c.Enter(Component::kScores, "attention");
  GraphBuilder& b = c.b;
  NodeId products = b.Mul(fmt::format("score products {}", chunk), query, cache);
  NodeId sums = b.RotateSum(fmt::format("score sums {}", chunk), products,
                            DoublingRotations(c.l.element_stride(), Log2(c.l.d_head)));
  b.SetPeriod(sums, Log2(c.l.element_stride()));
  const int seen = std::min(c.l.keys(), c.place.position + 1 - chunk * c.l.keys());
  NodeId scores = b.AddPlain(fmt::format("scores {}", chunk), sums,
                             HeadMask(c, 0, seen - 1, [&](int h) -> Complex {
                               return h < c.shape.n_heads ? c.forms.shift[h] * c.ScoreUnit(h) : 0.0;
                             }));
  c.Enter(Component::kPower, "attention");
  return LowerIntegerPower(b, scores, c.shape.power);
}

// numerator + i divisor / b of every row, summed over the chunks, at every slot.
NodeId LowerWeightedValues(BlockContext& c, const BlockQkv& qkv) {
  GraphBuilder& b = c.b;
  const int half = c.l.keys();
  NodeId sum = -1;
  for (int chunk = 0; chunk < c.l.chunks; ++chunk) {
    NodeId powers = LowerChunkPowers(c, qkv.query, qkv.caches[chunk], chunk);
    c.Enter(Component::kValues, "attention");
    NodeId aligned = b.Rotate(fmt::format("powers beside values {}", chunk), powers, -half);
    Vector ones(c.l.attention.size);
    const int seen = std::min(half, c.place.position + 1 - chunk * half);
    for (int k = 0; k < seen; ++k) ones[half + k] = Complex(0, 1 / c.forms.divisor_inverse.b);
    NodeId values =
        b.AddPlain(fmt::format("values and ones {}", chunk), qkv.caches[chunk], std::move(ones));
    NodeId products = b.Mul(fmt::format("value products {}", chunk), aligned, values);
    sum = sum < 0 ? products : b.Add("value products", sum, products);
  }
  NodeId sums = b.RotateSum("value sums", sum, DoublingRotations(1, Log2(half)));
  Vector mask(c.l.attention.size);
  mask[half] = 0.5;
  NodeId masked = b.MulPlain("value sums masked", sums, std::move(mask));
  std::vector<int> spread = DoublingRotations(-1, Log2(half));
  spread.push_back(half);
  return b.RotateSum("numerator and divisor", masked, std::move(spread));
}

NodeId LowerHeads(BlockContext& c, const BlockQkv& qkv) {
  GraphBuilder& b = c.b;
  NodeId both = LowerWeightedValues(c, qkv);
  NodeId conjugate = b.Conjugate("numerator and divisor conjugate", both);
  NodeId numerator = b.Add("numerator", both, conjugate);
  b.SetReal(numerator, true);

  c.Enter(Component::kDivision, "attention");
  NodeId divisor = b.MulByI("divisor", b.Sub("divisor times -i", conjugate, both));
  b.SetPeriod(divisor, Log2(c.l.element_stride()));
  b.SetReal(divisor, true);
  const approx::Approximant& inverse = c.forms.divisor_inverse;
  if (c.l.heads != c.shape.n_heads) {
    // Rows without a head get an input inside the interval; they meet zeros.
    Vector fill(c.l.element_stride());
    for (int s = c.shape.n_heads * c.l.attention.size; s < c.l.element_stride(); ++s)
      fill[s] = 0.5 * (inverse.a + inverse.b) / inverse.b;
    divisor = b.AddPlain("divisor filled", divisor, std::move(fill));
  }
  b.SetMagnitude(divisor, 1);
  b.MarkCut(divisor);
  return b.Mul("head outputs", numerator,
               LowerApproximant(b, "divisor inverse", divisor, inverse.b, inverse));
}

}  // namespace

NodeId LowerBlockAttention(BlockContext& c, NodeId x, NodeId root, double unit, double unit_after) {
  const BlockUnits units = c.Units(unit, unit_after);
  const Biases biases = PositionBiases(c);
  NodeId heads = LowerHeads(c, LowerBlockQkv(c, x, root, units, biases));
  c.Enter(Component::kProjection, "attention");
  GraphBuilder& b = c.b;
  NodeId products =
      LowerRealMap(b, "projection products", heads, ProjectionMap(c.place.block, c.l, units));
  NodeId sums = b.RotateSum("projection sums", products, FeatureSum(c.l, c.l.attention));
  b.SetPeriod(sums, Log2(c.l.width));
  NodeId output = TwiceReal(b, "projection", sums);
  return AddFeatureBias(c, "projection biased", output, biases.o, unit_after);
}

}  // namespace polyveil::compile
