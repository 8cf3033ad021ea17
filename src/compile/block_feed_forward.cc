#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/layout.h"
#include "compile/real_map.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

// p / unit of x, which is in units of units.gate.
NodeId LowerActivation(BlockContext& c, NodeId x, const BlockUnits& units, double unit) {
  approx::Approximant scaled = *c.forms.activation;
  for (double& coefficient : scaled.coeffs) coefficient /= unit;
  return LowerApproximant(c.b, "activation", x, units.gate, scaled);
}

// values / unit in every slot of their rows; nothing without biases.
NodeId AddRowBias(BlockContext& c, const char* name, NodeId x, const std::vector<double>& values,
                  double unit) {
  Vector bias(c.shape.biases ? c.l.slots : 0);
  for (size_t s = 0; s < bias.size(); ++s) {
    const size_t row = s / c.l.hidden.size;
    if (row < values.size()) bias[s] = values[row] / unit;
  }
  return AddBias(c, name, x, std::move(bias));
}

NodeId LowerGated(BlockContext& c, NodeId hidden, NodeId root, const BlockUnits& units,
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

}  // namespace

NodeId LowerBlockFeedForward(BlockContext& c, NodeId x, NodeId root, double unit,
                             double unit_after) {
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
  return AddFeatureBias(c, "down biased", output, biases.down, unit_after);
}

}  // namespace polyveil::compile
