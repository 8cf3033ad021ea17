#include "compile/attention_forms.h"

#include <cmath>
#include <map>

#include "compile/approximant_lowering.h"
#include "compile/attention_softmax.h"

namespace polyveil::compile {

namespace {

// x^(2^i), made once.
class Squares {
 public:
  Squares(GraphBuilder& builder, NodeId x, std::string name)
      : builder_(builder), name_(std::move(name)), squares_{x} {}

  NodeId At(std::size_t i) {
    while (squares_.size() <= i) {
      squares_.push_back(
          builder_.Square(fmt::format("{}^{}", name_, 1 << squares_.size()), squares_.back()));
    }
    return squares_[i];
  }

 private:
  GraphBuilder& builder_;
  std::string name_;
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

// score^p, p by head.
NodeId LowerScorePowers(BlockContext& c, NodeId score, int chunk) {
  Squares squares(c.b, score, c.Named("scores", chunk));
  std::map<int, std::vector<int>> heads;  // by power
  for (int h = 0; h < c.shape.n_heads; ++h) heads[c.place.block.power(h)].push_back(h);
  if (heads.size() == 1) return Power(c.b, squares, heads.begin()->first);
  NodeId sum = -1;
  for (const auto& [power, members] : heads) {
    std::vector<Complex> mask(static_cast<size_t>(c.l.element_stride()));
    for (const int h : members)
      std::fill_n(mask.begin() + h * c.l.attention.size, c.l.keys(), Complex(1));
    NodeId part = c.b.MulPlain(fmt::format("powers {} of their heads", power),
                               Power(c.b, squares, power), std::move(mask));
    sum = sum < 0 ? part : c.b.Add("powers", sum, part);
  }
  return sum;
}

}  // namespace

double ScoreUnit(const BlockContext& c, int head) {
  const model::AttentionForm& form = c.forms.attention;
  if (form.approximates_softmax()) return ExponentialScoreUnit(form);
  const double centre = c.forms.kappa[static_cast<size_t>(head)] * c.KeyCount();
  return std::pow(centre, -1.0 / c.place.block.power(head));
}

std::vector<NodeId> LowerSummands(BlockContext& c, const std::vector<NodeId>& scores) {
  c.Enter(Component::kPower, "attention");
  if (c.forms.attention.kind == model::AttentionKind::kExponential)
    return LowerExponentialPowers(c, scores);
  if (c.forms.attention.kind == model::AttentionKind::kNormaliseSquare)
    return LowerNormaliseSquare(c, scores);
  std::vector<NodeId> powers;
  for (const NodeId score : scores)
    powers.push_back(LowerScorePowers(c, score, static_cast<int>(powers.size())));
  return powers;
}

double RootUnit(const BlockContext& c, const approx::Approximant& root) {
  return 1 / std::sqrt(c.l.d_head * root.b);
}

NodeId LowerHeadNorm(BlockContext& c, const std::string& name, NodeId x, NodeId scaled, int slot,
                     const approx::Approximant& root) {
  GraphBuilder& b = c.b;
  NodeId sum = b.RotateSum(name + " variance", b.Square(name + " squares", x),
                           DoublingRotations(c.l.element_stride(), Log2(c.l.d_head)));
  b.SetPeriod(sum, Log2(c.l.element_stride()));
  // Empty slots: what the polynomial makes of them meets zeros, but must stay small.
  NodeId filled = b.AddPlain(name + " variance filled", sum,
                             HeadFill(c, slot, slot, 0.5 * (root.a + root.b) / root.b));
  b.SetMagnitude(filled, 1);
  b.MarkCut(filled);
  NodeId inverse = LowerApproximant(b, name + " inverse root", filled, root.b, root);
  return b.Mul(name + " normalised", scaled, inverse);
}

}  // namespace polyveil::compile
