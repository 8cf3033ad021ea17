#include "compile/attention_forms.h"

#include <cmath>
#include <map>

#include "compile/approximant_lowering.h"
#include "compile/attention_softmax.h"

namespace polyveil::compile {

namespace {

using Vector = std::vector<Complex>;

// x^(2^i), made once.
class Squares {
 public:
  Squares(GraphBuilder& builder, NodeId x) : builder_(builder), squares_{x} {}

  NodeId At(std::size_t i) {
    while (squares_.size() <= i) {
      squares_.push_back(
          builder_.Square(fmt::format("scores^{}", 1 << squares_.size()), squares_.back()));
    }
    return squares_[i];
  }

 private:
  GraphBuilder& builder_;
  std::vector<NodeId> squares_;
};

NodeId Power(GraphBuilder& builder, Squares& squares, int power) {
  NodeId result = -1;
  for (std::size_t i = 0; power >> i > 0; ++i) {
    if ((power >> i & 1) == 0) continue;
    result = result < 0 ? squares.At(i)
                        : builder.Mul(fmt::format("powers {}", power & ((2 << i) - 1)), result,
                                      squares.At(i));
  }
  return result;
}

// `scaled` times 1/sqrt of a head's mean square over its elements. x: what is normalised, divided
// by the largest root mean square of the interval, at slot `position` of each block.
NodeId DivideByRootMeanSquare(LayerContext& c, const std::string& name, NodeId x, NodeId scaled,
                              const approx::Approximant& root) {
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  NodeId sum = b.RotateSum(name + " variance", b.Square(name + " squares", x),
                           DoublingRotations(l.element_stride(), Log2(l.d_head)));
  b.SetPeriod(sum, Log2(l.element_stride()));
  // Empty slots are put into the middle of the interval: what the polynomial makes of them meets
  // zeros, but must stay small.
  Vector fill(l.block(), Complex(0.5 * (root.a + root.b) / root.b));
  fill[c.position] = 0;
  NodeId filled = b.AddPlain(name + " variance filled", sum, std::move(fill));
  b.SetMagnitude(filled, 1);
  b.MarkCut(filled);
  NodeId inverse = LowerApproximant(b, name + " inverse root", filled, root.b, root);
  return b.Mul(name + " normalised", scaled, inverse);
}

}  // namespace

double ScoreUnit(const LayerContext& c, int head) {
  if (c.layer.attention.approximates_softmax()) return ExponentialScoreUnit(c.layer.attention);
  const double centre = c.layer.kappa[head] * c.layer.attention.KeyCount(c.position + 1);
  return std::pow(centre, -1.0 / model::HeadPower(c.config, c.index, head));
}

NodeId LowerSummands(LayerContext& c, NodeId score) {
  switch (c.layer.attention.kind) {
    case model::AttentionKind::kExponential:
      return LowerExponentialPowers(c, score);
    case model::AttentionKind::kNormaliseSquare:
      return LowerNormaliseSquare(c, score);
    case model::AttentionKind::kPower:
    case model::AttentionKind::kPointwise:
      break;
  }
  return LowerScorePowers(c, score);
}

NodeId LowerIntegerPower(GraphBuilder& builder, NodeId x, int power) {
  Squares squares(builder, x);
  return Power(builder, squares, power);
}

NodeId LowerScorePowers(LayerContext& c, NodeId score) {
  c.Enter(Component::kPower, "attention");
  const Layout& l = c.layout;
  Squares squares(c.builder, score);
  std::map<int, std::vector<int>> heads;  // by power
  for (int h = 0; h < l.n_heads; ++h) heads[model::HeadPower(c.config, c.index, h)].push_back(h);
  if (heads.size() == 1) return Power(c.builder, squares, heads.begin()->first);
  NodeId sum = -1;
  for (const auto& [power, members] : heads) {
    Vector mask(l.element_stride());
    for (const int h : members)
      for (int k = 0; k < l.half(); ++k) mask[h * l.head_stride() + k] = 1;
    NodeId part = c.builder.MulPlain(fmt::format("powers {} of their heads", power),
                                     Power(c.builder, squares, power), std::move(mask));
    sum = sum < 0 ? part : c.builder.Add("powers", sum, part);
  }
  return sum;
}

NodeId LowerPointwiseValues(LayerContext& c, NodeId powers, NodeId cache) {
  c.Enter(Component::kValues, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  NodeId aligned = b.Rotate("powers beside values", powers, -l.half());
  NodeId products = b.Mul("value products", aligned, cache);
  NodeId sums = b.RotateSum("value sums", products, DoublingRotations(1, Log2(l.half())));
  Vector mask(l.block());
  mask[l.half()] = 1;
  NodeId masked = b.MulPlain("value sums masked", sums, std::move(mask));
  std::vector<int> spread = DoublingRotations(-1, Log2(l.half()));
  spread.push_back(l.half());
  return b.RotateSum("head outputs", masked, std::move(spread));
}

Qkv LowerNormalisedQkv(LayerContext& c, NodeId qkv, NodeId conjugate, NodeId inverse_root) {
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  const model::QkNorm& norm = *c.layer.attention.qk_norm;
  const int t = c.position;
  const auto masked = [&](const char* what, NodeId from, int slot, auto value) {
    NodeId part = b.MulPlain(std::string(what) + " masked", from, BlockMask(l, slot, slot, value));
    b.SetReal(part, true);
    return b.Mul(what, part, inverse_root);
  };
  const auto variance_unit = [&](const approx::Approximant& root) {
    return 1 / std::sqrt(l.d_head * root.b);  // the sum of squares becomes v / b
  };
  NodeId kv_sums = b.Add("kv sums", qkv, conjugate);
  NodeId q_sums = b.Sub("query sums", qkv, conjugate);
  NodeId value = masked("value", kv_sums, t + l.half(), [](int) { return 0.5; });
  NodeId key =
      DivideByRootMeanSquare(c, "key",
                             masked("key in its unit", kv_sums, t,
                                    [&](int) { return 0.5 * variance_unit(norm.key_root); }),
                             masked("key", kv_sums, t, [](int) { return 0.5; }), norm.key_root);
  NodeId before = b.State("cache before", c.index, l.log_slots);
  NodeId cache = b.Add("cache", before, b.Add("key and value", key, value));
  b.graph().updates.push_back({c.index, cache});

  // Gain and score unit would be divided out by the norm: they enter beside it.
  NodeId query = DivideByRootMeanSquare(
      c, "query",
      masked("query in its unit", q_sums, t,
             [&](int) { return Complex(0, -0.5 * variance_unit(norm.query_root)); }),
      masked("query with gain", q_sums, t,
             [&](int h) { return Complex(0, -0.5 * norm.gain[h] * ScoreUnit(c, h)); }),
      norm.query_root);
  return {b.RotateSum("query spread", query, DoublingRotations(1, Log2(l.half()))), cache};
}

}  // namespace polyveil::compile
