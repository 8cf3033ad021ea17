#include "compile/attention_softmax.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"

namespace polyveil::compile {

namespace {

using Vector = std::vector<Complex>;

// (kappa N)^(-2^-r): what the squarings turn into 1 / (kappa N).
double SquaredFactor(const LayerContext& c, int head) {
  const model::AttentionForm& form = c.layer.attention;
  const double centre = c.layer.kappa[head] * form.KeyCount(c.position + 1);
  return std::pow(centre, -std::ldexp(1.0, -form.squarings));
}

// factor times the sum over the first half of each block, in every slot of that half; `elsewhere`
// in the other half, where a polynomial will read it.
NodeId SumOverKeys(LayerContext& c, const std::string& name, NodeId x, double factor,
                   double elsewhere) {
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  NodeId sums = b.RotateSum(name + " sums", x, DoublingRotations(1, Log2(l.half())));
  Vector first(l.block());
  first[0] = factor;
  NodeId masked = b.MulPlain(name + " masked", sums, std::move(first));
  NodeId spread = b.RotateSum(name + " spread", masked, DoublingRotations(-1, Log2(l.half())));
  Vector fill(l.block());
  for (int k = l.half(); k < l.block(); ++k) fill[k] = elsewhere;
  return b.AddPlain(name, spread, std::move(fill));
}

}  // namespace

double ExponentialScoreUnit(const model::AttentionForm& form) {
  return 1 / std::max(std::abs(form.exponential->a), std::abs(form.exponential->b));
}

NodeId LowerExponential(LayerContext& c, NodeId score, double (*factor)(const LayerContext&, int)) {
  c.Enter(Component::kPower, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  const approx::Approximant& e = *c.layer.attention.exponential;
  const double unit = ExponentialScoreUnit(c.layer.attention);
  // Empty slots read the interval's middle.
  Vector fill(l.block(), Complex(0.5 * (e.a + e.b) * unit));
  for (int k = 0; k <= c.position; ++k) fill[k] = 0;
  NodeId filled = b.AddPlain("scores filled", score, std::move(fill));
  b.SetMagnitude(filled, 1);
  b.MarkCut(filled);
  NodeId value = LowerApproximant(b, "exponential", filled, 1 / unit, e);
  return b.MulPlain("exponential masked", value,
                    BlockMask(l, 0, c.position, [&](int h) { return factor(c, h); }));
}

NodeId LowerExponentialPowers(LayerContext& c, NodeId score) {
  NodeId value = LowerExponential(c, score, SquaredFactor);
  for (int i = 0; i < c.layer.attention.squarings; ++i)
    value = c.builder.Square(fmt::format("exponential^{}", 2 << i), value);
  return value;
}

NodeId LowerNormaliseSquare(LayerContext& c, NodeId score) {
  GraphBuilder& b = c.builder;
  const model::AttentionForm& form = c.layer.attention;
  const double keys = form.KeyCount(c.position + 1);
  NodeId y = LowerExponential(c, score, [](const LayerContext&, int) { return 1.0; });
  c.Enter(Component::kDivision, "attention");
  for (std::size_t round = 0; round < form.rounds.size(); ++round) {
    const approx::Approximant& root = form.rounds[round];
    const std::string name = fmt::format("round {}", round + 1);
    // y is e(z) at first, then the weights, N times smaller than what has mean 1.
    const double mean = round == 0 ? 1 / keys : keys;
    NodeId squares = SumOverKeys(c, name + " mean of squares", b.Square(name + " squares", y),
                                 mean / root.b, 0.5 * (root.a + root.b) / root.b);
    NodeId inverse = LowerApproximant(b, name + " inverse root", squares, root.b, root);
    // Beside the root's evaluation, so that no level is spent on it.
    const double scale = round == 0 ? 1 / std::sqrt(keys) : std::sqrt(keys);
    NodeId scaled = b.MulPlain(name + " in its unit", y, {Complex(scale)});
    y = b.Square(name, b.Mul(name + " normalised", scaled, inverse));
    b.SetMagnitude(y, 1);
    b.MarkCut(y);
  }
  return y;
}

}  // namespace polyveil::compile
