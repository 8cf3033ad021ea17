#include "compile/lower_block.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"
#include "compile/attention_forms.h"
#include "compile/block_matrices.h"
#include "compile/layout.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

double OrOne(double bound) { return bound > 0 ? bound : 1; }

// Shared by the parts of one block.
struct Context {
  GraphBuilder& b;
  const BlockPlace& place;
  const BlockLayout& l;
  const model::BlockShape& shape;
  const model::LayerConfig& forms;

  int slot() const { return place.position % l.keys(); }
  int chunk() const { return place.position / l.keys(); }
  BlockUnits Units(double input, double output) const {
    return {input, output, OrOne(forms.bounds.key), OrOne(forms.bounds.value),
            OrOne(forms.bounds.product),
            // Arguments of polynomials stay near their scale.
            std::max(std::abs(forms.activation->a), std::abs(forms.activation->b)),
            OrOne(forms.bounds.hidden)};
  }
  void Enter(Component component, const char* part) {
    b.Enter(place.index, component, fmt::format("layer {} / {} / ", place.index, part));
  }
  // What the scores of head h are multiplied by so that their powers sum to the centred divisor.
  double ScoreUnit(int head) const {
    return std::pow(forms.kappa[head] * (place.position + 1), -1.0 / shape.power);
  }
};

struct Biases {
  std::vector<double> q, k, v, o, gate, up, down;
};

// Of this position; empty without biases.
Biases PositionBiases(const Context& c) {
  if (!c.shape.biases) return {};
  const auto w = c.place.block.weights->Get();
  Biases biases{w->bq, w->bk, w->bv, w->bo, w->b_gate, w->b_up, w->b_down};
  for (auto* bias : {&biases.q, &biases.k}) model::RotateRows(c.shape, c.place.position, *bias, 1);
  return biases;
}

// value(element, head) at `slot` of every attention row.
template <typename F>
void FillAttentionSlot(const Context& c, int slot, F&& value, Vector& out) {
  out.resize(c.l.slots);
  for (int e = 0; e < c.l.d_head; ++e)
    for (int h = 0; h < c.shape.n_heads; ++h)
      out[c.l.AttentionRow(e, h) * c.l.attention.size + slot] += value(e, h);
}

// value(h) at slots first..last of every head; period: one element of every head.
template <typename F>
Vector HeadMask(const Context& c, int first, int last, F&& value) {
  Vector mask(c.l.element_stride());
  for (int h = 0; h < c.l.heads; ++h)
    for (int k = first; k <= last; ++k) mask[h * c.l.attention.size + k] = value(h);
  return mask;
}

Vector FeatureVector(const Context& c, const std::vector<double>& values, double unit) {
  Vector out(c.l.width);
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i] / unit;
  return out;
}

// ~ 1/sqrt(mean(x^2) + eps) in every slot.
NodeId LowerRoot(Context& c, const char* part, NodeId x, double unit,
                 const approx::Approximant& p) {
  c.Enter(Component::kNorm, part);
  NodeId squares = c.b.Square("norm squares", x);
  NodeId sum = c.b.RotateSum("variance", squares, DoublingRotations(1, Log2(c.l.width)));
  c.b.SetPeriod(sum, 0);
  return LowerApproximant(c.b, "inverse root", sum, unit * unit / c.shape.d_model, p);
}

// A real map of a real vector in half of its terms: with x' = x + i rotate(x, terms / 2 strides)
// and diagonals d_k - i d_(k + terms / 2) the real part of the sum is the map's. Returns its half,
// so that TwiceReal makes it whole. Worth its rotation and conjugation from some terms on.
constexpr int kPackedTerms = 16;

NodeId LowerRealMap(GraphBuilder& b, const std::string& name, NodeId x, LinearMap map) {
  if (map.terms < kPackedTerms) {
    LinearMap half{map.terms, map.stride, [map](int term) {
                     Vector diagonal = map.diagonal(term);
                     for (Complex& v : diagonal) v *= 0.5;
                     return diagonal;
                   }};
    return b.Linear(name, x, std::move(half), true);
  }
  const int terms = map.terms / 2;
  NodeId shifted = b.MulByI(name + ": i times the other half",
                            b.Rotate(name + ": other half", x, terms * map.stride));
  NodeId packed = b.Add(name + ": packed", x, shifted);
  b.SetReal(packed, false);
  LinearMap half{terms, map.stride, [map, terms](int term) {
                   Vector diagonal = map.diagonal(term);
                   const Vector other = map.diagonal(term + terms);
                   for (size_t s = 0; s < diagonal.size(); ++s)
                     diagonal[s] = 0.5 * (diagonal[s] - Complex(0, 1) * other[s]);
                   return diagonal;
                 }};
  return b.Linear(name, packed, std::move(half), false);
}

// x + conj(x); nothing but a sum where x is real.
NodeId TwiceReal(GraphBuilder& b, const std::string& name, NodeId x) {
  NodeId sum = b.Add(name, x, b.graph()[x].real ? x : b.Conjugate(name + " conjugate", x));
  b.SetReal(sum, true);
  return sum;
}

struct BlockQkv {
  NodeId query = -1;
  std::vector<NodeId> caches;  // by chunk, this token's key and value included
};

NodeId AddBias(Context& c, const char* name, NodeId x, Vector bias) {
  return c.shape.biases ? c.b.AddPlain(name, x, std::move(bias)) : x;
}

// The constant tokens' part of a chunk; nothing where it has none.
NodeId AddPrefix(Context& c, NodeId cache, int chunk, const BlockUnits& units) {
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

BlockQkv LowerBlockQkv(Context& c, NodeId x, NodeId root, const BlockUnits& units,
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
NodeId LowerChunkPowers(Context& c, NodeId query, NodeId cache, int chunk) {
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
NodeId LowerWeightedValues(Context& c, const BlockQkv& qkv) {
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

NodeId LowerHeads(Context& c, const BlockQkv& qkv) {
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

NodeId LowerBlockAttention(Context& c, NodeId x, NodeId root, double unit, double unit_after) {
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
  return AddBias(c, "projection biased", output, FeatureVector(c, biases.o, unit_after));
}

// p / unit of x, which is in units of units.gate.
NodeId LowerActivation(Context& c, NodeId x, const BlockUnits& units, double unit) {
  approx::Approximant scaled = *c.forms.activation;
  for (double& coefficient : scaled.coeffs) coefficient /= unit;
  return LowerApproximant(c.b, "activation", x, units.gate, scaled);
}

// values / unit in every slot of their rows; nothing without biases.
NodeId AddRowBias(Context& c, const char* name, NodeId x, const std::vector<double>& values,
                  double unit) {
  Vector bias(c.shape.biases ? c.l.slots : 0);
  for (size_t s = 0; s < bias.size(); ++s) {
    const size_t row = s / c.l.hidden.size;
    if (row < values.size()) bias[s] = values[row] / unit;
  }
  return AddBias(c, name, x, std::move(bias));
}

NodeId LowerGated(Context& c, NodeId hidden, NodeId root, const BlockUnits& units,
                  const Biases& biases) {
  GraphBuilder& b = c.b;
  NodeId conjugate = b.Conjugate("hidden conjugate", hidden);
  NodeId gate_raw = b.Add("gate raw", hidden, conjugate);
  NodeId up_raw = b.MulByI("up raw", b.Sub("up raw times -i", conjugate, hidden));
  b.SetReal(gate_raw, true);
  b.SetReal(up_raw, true);
  NodeId gate =
      AddRowBias(c, "gate biased", b.Mul("gate", gate_raw, root), biases.gate, units.gate);
  NodeId up = AddRowBias(c, "up biased", b.Mul("up", up_raw, root), biases.up, units.hidden);
  return b.Mul("gated product", LowerActivation(c, gate, units, units.product / units.hidden), up);
}

NodeId LowerBlockFeedForward(Context& c, NodeId x, NodeId root, double unit, double unit_after) {
  c.Enter(Component::kFeedForward, "feed-forward");
  GraphBuilder& b = c.b;
  const BlockUnits units = c.Units(unit, unit_after);
  const RowLayout& rows = c.l.hidden;
  const Biases biases = PositionBiases(c);
  const bool gated = c.shape.gated;
  LinearMap map = HiddenMap(c.place.block, c.l, units);
  NodeId products = gated ? b.Linear("hidden products", x, std::move(map), false)
                          : LowerRealMap(b, "hidden products", x, std::move(map));
  NodeId sums = b.RotateSum("hidden sums", products, DoublingRotations(1, Log2(rows.window)));
  Vector mask(rows.size);
  mask[0] = gated ? 0.5 : 1.0;
  NodeId masked = b.MulPlain("hidden masked", sums, std::move(mask));
  NodeId hidden = b.RotateSum("hidden", masked, DoublingRotations(-1, Log2(rows.size)));
  NodeId product;
  if (gated) {
    product = LowerGated(c, hidden, root, units, biases);
  } else {
    NodeId scaled = b.Mul("hidden scaled", TwiceReal(b, "hidden real", hidden), root);
    NodeId biased = AddRowBias(c, "hidden biased", scaled, biases.up, units.gate);
    product = LowerActivation(c, biased, units, units.product);
  }
  b.SetMagnitude(product, 1);
  b.MarkCut(product);
  NodeId down = LowerRealMap(b, "down products", product, DownMap(c.place.block, c.l, units));
  NodeId down_sums = b.RotateSum("down sums", down, FeatureSum(c.l, rows));
  b.SetPeriod(down_sums, Log2(c.l.width));
  NodeId output = TwiceReal(b, "down", down_sums);
  return AddBias(c, "down biased", output, FeatureVector(c, biases.down, unit_after));
}

NodeId AddToResidual(Context& c, NodeId x, double unit, double unit_after, NodeId update) {
  NodeId sum =
      c.b.Add("residual", c.b.ChangeUnit("residual in its unit", x, unit / unit_after), update);
  c.b.SetMagnitude(sum, 1);
  c.b.SetReal(sum, true);
  c.b.MarkCut(sum);
  return sum;
}

}  // namespace

NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x) {
  Context c{builder, place, place.layout, place.block.shape, place.block.forms};
  const double in = place.unit_in, middle = place.unit_middle, out = place.unit_out;
  NodeId root = LowerRoot(c, "attention", x, in, c.forms.norm1);
  if (c.shape.parallel) {
    NodeId attended = LowerBlockAttention(c, x, root, in, out);
    NodeId fed = LowerBlockFeedForward(c, x, root, in, out);
    return AddToResidual(c, x, in, out, builder.Add("attention and feed-forward", attended, fed));
  }
  NodeId mid = AddToResidual(c, x, in, middle, LowerBlockAttention(c, x, root, in, middle));
  NodeId root2 = LowerRoot(c, "feed-forward", mid, middle, c.forms.norm2);
  return AddToResidual(c, mid, middle, out, LowerBlockFeedForward(c, mid, root2, middle, out));
}

}  // namespace polyveil::compile
