#include "compile/attention_softmax.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"

namespace polyveil::compile {

namespace {

// (kappa N)^(-2^-r): what the squarings turn into 1 / (kappa N).
double SquaredFactor(const BlockContext& c, int head) {
  const double centre = c.forms.kappa[static_cast<size_t>(head)] * c.KeyCount();
  return std::pow(centre, -std::ldexp(1.0, -c.forms.attention.squarings));
}

// Values of several chunks that are bootstrapped together or not at all.
void MarkCuts(GraphBuilder& b, const std::vector<NodeId>& values) {
  for (const NodeId id : values) {
    b.SetMagnitude(id, 1);
    b.MarkCut(id, values.front());
  }
}

// e(z) of the keys that are seen times factor(head), zero elsewhere: a causal mask cannot come
// before an exponential. scores: in the exponential's unit. Depth: the series' + 1.
template <typename F>
std::vector<NodeId> LowerExponential(BlockContext& c, const std::vector<NodeId>& scores,
                                     F&& factor) {
  GraphBuilder& b = c.b;
  const approx::Approximant& e = *c.forms.attention.exponential;
  const double unit = ExponentialScoreUnit(c.forms.attention);
  std::vector<NodeId> filled;
  for (int part = 0; part < c.parts(); ++part)
    filled.push_back(b.AddPlain(c.Named("scores filled", part), scores[static_cast<size_t>(part)],
                                SeenFill(c, part, 0.5 * (e.a + e.b) * unit)));
  MarkCuts(b, filled);
  std::vector<NodeId> values;
  for (int part = 0; part < c.parts(); ++part) {
    NodeId value = LowerApproximant(b, c.Named("exponential", part),
                                    filled[static_cast<size_t>(part)], 1 / unit, e);
    values.push_back(
        b.MulPlain(c.Named("exponential masked", part), value, SeenMask(c, part, factor)));
  }
  return values;
}

// factor times the sum over all keys, in every slot of the rows' first halves; `elsewhere` in the
// other ones, where a polynomial will read it.
NodeId SumOverKeys(BlockContext& c, const std::string& name, const std::vector<NodeId>& parts,
                   double factor, double elsewhere) {
  GraphBuilder& b = c.b;
  NodeId all = parts.front();
  for (int part = 1; part < c.parts(); ++part) {
    NodeId one = parts[static_cast<size_t>(part)];
    if (c.IsKnown(part) && c.l.known_groups > 1) {
      one = b.RotateSum(name + " of the groups", one,
                        DoublingRotations(c.l.element_stride(), Log2(c.l.known_groups)));
      b.SetPeriod(one, Log2(c.l.element_stride()));
    }
    all = b.Add(name + " of the chunks", all, one);
  }
  NodeId sums = b.RotateSum(name + " sums", all, DoublingRotations(1, Log2(c.l.keys())));
  NodeId masked =
      b.MulPlain(name + " masked", sums, HeadMask(c, 0, 0, [&](int) { return factor; }));
  NodeId spread = b.RotateSum(name + " spread", masked, DoublingRotations(-1, Log2(c.l.keys())));
  return b.AddPlain(name, spread, HeadFill(c, 0, c.l.keys() - 1, elsewhere));
}

// y <- keys (y r)^2 with r ~ 1/sqrt of the mean of (keys y)^2. y is e(z) before the first round, N
// times larger than what has mean 1.
std::vector<NodeId> LowerRound(BlockContext& c, size_t round, std::vector<NodeId> y, double keys) {
  GraphBuilder& b = c.b;
  const approx::Approximant& root = c.forms.attention.rounds[round];
  const std::string name = fmt::format("round {}", round + 1);
  std::vector<NodeId> squares;
  for (const NodeId value : y) squares.push_back(b.Square(name + " squares", value));
  const double mean = round == 0 ? 1 / keys : keys;
  NodeId sum = SumOverKeys(c, name + " mean of squares", squares, mean / root.b,
                           0.5 * (root.a + root.b) / root.b);
  NodeId inverse = LowerApproximant(b, name + " inverse root", sum, root.b, root);
  for (NodeId& value : y) {
    // Beside the root's evaluation, so that no level is spent on it.
    const double scale = round == 0 ? 1 / std::sqrt(keys) : std::sqrt(keys);
    NodeId scaled = b.MulPlain(name + " in its unit", value, {Complex(scale)});
    value = b.Square(name, b.Mul(name + " normalised", scaled, inverse));
  }
  MarkCuts(b, y);
  return y;
}

}  // namespace

double ExponentialScoreUnit(const model::AttentionForm& form) {
  return 1 / std::max(std::abs(form.exponential->a), std::abs(form.exponential->b));
}

std::vector<NodeId> LowerExponentialPowers(BlockContext& c, const std::vector<NodeId>& scores) {
  std::vector<NodeId> values =
      LowerExponential(c, scores, [&](int h) { return SquaredFactor(c, h); });
  for (NodeId& value : values)
    for (int i = 0; i < c.forms.attention.squarings; ++i)
      value = c.b.Square(fmt::format("exponential^{}", 2 << i), value);
  return values;
}

std::vector<NodeId> LowerNormaliseSquare(BlockContext& c, const std::vector<NodeId>& scores) {
  std::vector<NodeId> y = LowerExponential(c, scores, [](int) { return 1.0; });
  c.Enter(Component::kDivision, "attention");
  for (size_t round = 0; round < c.forms.attention.rounds.size(); ++round)
    y = LowerRound(c, round, std::move(y), c.KeyCount());
  return y;
}

}  // namespace polyveil::compile
