#include "compile/lower_block.h"

#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/layout.h"

namespace polyveil::compile {
namespace {

// ~ 1/sqrt(mean(x^2) + eps) in every slot.
NodeId LowerRoot(BlockContext& c, const char* part, NodeId x, double unit,
                 const approx::Approximant& p) {
  c.Enter(Component::kNorm, part);
  NodeId squares = c.b.Square("norm squares", x);
  NodeId sum = c.b.RotateSum("variance", squares, DoublingRotations(1, Log2(c.l.width)));
  c.b.SetPeriod(sum, 0);
  return LowerApproximant(c.b, "inverse root", sum, unit * unit / c.shape.d_model, p);
}

NodeId AddToResidual(BlockContext& c, NodeId x, double unit, double unit_after, NodeId update) {
  NodeId sum =
      c.b.Add("residual", c.b.ChangeUnit("residual in its unit", x, unit / unit_after), update);
  c.b.SetMagnitude(sum, 1);
  c.b.SetReal(sum, true);
  c.b.MarkCut(sum);
  return sum;
}

}  // namespace

Biases PositionBiases(const BlockContext& c) {
  if (!c.shape.biases) return {};
  const auto w = c.place.block.weights->Get();
  Biases biases{w->bq, w->bk, w->bv, w->bo, w->b_gate, w->b_up, w->b_down};
  for (auto* bias : {&biases.q, &biases.k}) model::RotateRows(c.shape, c.place.position, *bias, 1);
  return biases;
}

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias) {
  return c.shape.biases ? c.b.AddPlain(name, x, std::move(bias)) : x;
}

NodeId AddFeatureBias(BlockContext& c, const std::string& name, NodeId x,
                      const std::vector<double>& values, double unit) {
  std::vector<Complex> bias(static_cast<size_t>(c.l.width));
  for (size_t i = 0; i < values.size(); ++i) bias[i] = values[i] / unit;
  return AddBias(c, name, x, std::move(bias));
}

NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x) {
  BlockContext c{builder, place, place.layout, place.block.shape, place.block.forms};
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
