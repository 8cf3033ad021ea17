#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/real_map.h"
#include "compile/token_matrices.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

// p / unit of x, which is in units of units.gate.
NodeId LowerActivation(BlockContext& c, NodeId x, const BlockUnits& units, double unit) {
  approx::Approximant scaled = *c.forms.activation;
  for (double& coefficient : scaled.coeffs) coefficient /= unit;
  return LowerApproximant(c.b, "activation", x, units.gate, scaled);
}

// The hidden value that a slot holds. Of tokens at once: second halves hold those behind the rows.
size_t HiddenRow(const BlockContext& c, size_t slot) {
  if (!c.many()) return slot / c.l.hidden.size;
  const size_t half = slot / static_cast<size_t>(c.l.keys());
  return half / 2 + half % 2 * static_cast<size_t>(c.l.attention.rows);
}

// values / unit in every slot of their rows; nothing without biases.
NodeId AddRowBias(BlockContext& c, const char* name, NodeId x, const std::vector<double>& values,
                  double unit) {
  Vector bias(c.shape.biases ? c.l.slots : 0);
  for (size_t s = 0; s < bias.size(); ++s) {
    const size_t row = HiddenRow(c, s);
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

NodeId LowerPlain(BlockContext& c, NodeId hidden, NodeId root, const BlockUnits& units,
                  const Biases& biases) {
  NodeId scaled = c.b.Mul("hidden scaled", WholeOfReal(c.b, "hidden real", hidden), root);
  NodeId biased = AddRowBias(c, "hidden biased", scaled, biases.up, units.gate);
  return LowerActivation(c, biased, units, units.product);
}

// What the first matrix writes, in every slot of its row. factor: of it.
NodeId LowerHidden(BlockContext& c, NodeId x, const BlockUnits& units, double factor) {
  GraphBuilder& b = c.b;
  const RowLayout& rows = c.l.hidden;
  LinearMap map = c.many() ? TokenMap(c.l, units, MatrixKind::kHidden, c.place.index, factor)
                           : HiddenMap(c.l, units, c.place.index);
  NodeId products = c.shape.gated ? b.Linear("hidden products", x, std::move(map), false)
                                  : LowerRealMap(b, "hidden products", x, std::move(map));
  if (c.many()) return products;
  NodeId sums = b.RotateSum("hidden sums", products, DoublingRotations(1, Log2(rows.window)));
  Vector mask(static_cast<size_t>(rows.size));
  mask[0] = factor;
  NodeId masked = b.MulPlain("hidden masked", sums, std::move(mask));
  return b.RotateSum("hidden", masked, DoublingRotations(-1, Log2(rows.size)));
}

// The down matrix; of a bilinear feed-forward that of the imaginary part.
NodeId LowerDown(BlockContext& c, NodeId product, const BlockUnits& units) {
  GraphBuilder& b = c.b;
  LinearMap map = c.many() ? TokenMap(c.l, units, MatrixKind::kDown, c.place.index)
                           : DownMap(c.l, units, c.place.index);
  NodeId products = c.shape.bilinear() ? b.Linear("down products", product, std::move(map), false)
                                       : LowerRealMap(b, "down products", product, std::move(map));
  if (c.many()) return WholeOfReal(b, "down", products);
  NodeId sums = b.RotateSum("down sums", products, FeatureSum(c.l, c.l.hidden));
  b.SetPeriod(sums, Log2(c.l.width));
  return WholeOfReal(b, "down", sums);
}

// (u + iv)^2 = u^2 - v^2 + 2iuv: the gated product is half of the imaginary part, taken as a real
// part after the matrix. The root multiplies there, so that it is computed beside the rest.
NodeId LowerBilinear(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units) {
  NodeId square = c.b.Square("gated product", LowerHidden(c, x, units, 1));
  return c.b.Mul("output", LowerDown(c, square, units), root);
}

}  // namespace

NodeId LowerBlockFeedForward(BlockContext& c, NodeId x, NodeId root, const ResidualUnit& unit,
                             const ResidualUnit& after) {
  c.Enter(Component::kFeedForward, "feed-forward");
  const BlockUnits units = MakeBlockUnits(c.forms, unit, after);
  if (c.shape.bilinear()) return LowerBilinear(c, x, root, units);
  const Biases biases = PositionBiases(c);
  NodeId hidden = LowerHidden(c, x, units, c.shape.gated ? 0.5 : 1);
  NodeId product = c.shape.gated ? LowerGated(c, hidden, root, units, biases)
                                 : LowerPlain(c, hidden, root, units, biases);
  c.b.SetMagnitude(product, 1);
  c.b.MarkCut(product);
  return AddFeatureBias(c, "down biased", LowerDown(c, product, units), biases.down, after);
}

}  // namespace polyveil::compile
