#include "compile/lower_block.h"

#include "compile/approximant_lowering.h"
#include "compile/block_context.h"

namespace polyveil::compile {
namespace {

// Values by channel in the feature layout; zero in the padding.
template <typename F>
std::vector<Complex> ByChannel(const BlockContext& c, F&& value) {
  std::vector<Complex> values(static_cast<size_t>(c.l.width));
  for (size_t i = 0; i < static_cast<size_t>(c.shape.d_model); ++i) values[i] = value(i);
  return values;
}

// (x_c channels[c])^2: with channels' own units x times their squares times x, a level more.
NodeId LowerSquares(BlockContext& c, NodeId x, const ChannelUnits& channels) {
  if (!channels) return c.b.Square("norm squares", x);
  const auto squared = [&](size_t i) { return (*channels)[i] * (*channels)[i]; };
  return c.b.Mul("norm squares", c.b.MulPlain("norm weights", x, ByChannel(c, squared)), x);
}

// ~ 1/sqrt(mean(x^2) + eps) in every slot.
NodeId LowerRoot(BlockContext& c, const char* part, NodeId x, const ResidualUnit& unit,
                 const approx::Approximant& p) {
  c.Enter(Component::kNorm, part);
  NodeId squares = LowerSquares(c, x, unit.channels);
  NodeId sum = c.b.RotateSum("variance", squares, DoublingRotations(1, Log2(c.l.width)));
  c.b.SetPeriod(sum, 0);
  return LowerApproximant(c.b, "inverse root", sum, unit.unit * unit.unit / c.shape.d_model, p);
}

void MarkResidual(GraphBuilder& b, NodeId x) {
  b.SetMagnitude(x, 1);
  b.SetReal(x, true);
  b.MarkCut(x);
}

NodeId InUnit(BlockContext& c, NodeId x, const ResidualUnit& before, const ResidualUnit& after) {
  const std::string name = "residual in its unit";
  if (before.channels == after.channels) return c.b.ChangeUnit(name, x, before.unit / after.unit);
  return c.b.MulPlain(name, x, ByChannel(c, [&](size_t i) {
                        const double was = before.channels ? (*before.channels)[i] : 1;
                        return before.unit * was /
                               (after.unit * (after.channels ? (*after.channels)[i] : 1));
                      }));
}

NodeId AddToResidual(BlockContext& c, NodeId x, const ResidualUnit& before,
                     const ResidualUnit& after, NodeId update) {
  NodeId sum = c.b.Add("residual", InUnit(c, x, before, after), update);
  MarkResidual(c.b, sum);
  return sum;
}

}  // namespace

BlockUnits BlockContext::Units(const ResidualUnit& input, const ResidualUnit& output) const {
  const auto or_one = [](double bound) { return bound > 0 ? bound : 1; };
  BlockUnits units{input.unit, output.unit, input.channels, output.channels};
  units.key = or_one(forms.bounds.key);
  units.value = or_one(forms.bounds.value);
  units.product = or_one(forms.bounds.product);
  units.hidden = or_one(forms.bounds.hidden);
  // Arguments of polynomials stay near their scale.
  if (forms.activation)
    units.gate = std::max(std::abs(forms.activation->a), std::abs(forms.activation->b));
  return units;
}

std::vector<Complex> HeadFill(const BlockContext& c, int first, int last, double value) {
  std::vector<Complex> fill(static_cast<size_t>(c.l.element_stride()), Complex(value));
  for (int h = 0; h < c.shape.n_heads; ++h)
    for (int k = first; k <= last; ++k) fill[static_cast<size_t>(h * c.l.attention.size + k)] = 0;
  return fill;
}

Biases PositionBiases(const BlockContext& c) {
  if (!c.shape.biases) return {};
  const auto w = c.place.block.weights->Biases();
  Biases biases{w->bq, w->bk, w->bv, w->bo, w->b_gate, w->b_up, w->b_down};
  for (auto* bias : {&biases.q, &biases.k}) model::RotateRows(c.shape, c.place.position, *bias, 1);
  return biases;
}

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias) {
  return c.shape.biases ? c.b.AddPlain(name, x, std::move(bias)) : x;
}

NodeId AddFeatureBias(BlockContext& c, const std::string& name, NodeId x,
                      const std::vector<double>& values, const ResidualUnit& unit) {
  std::vector<Complex> bias(static_cast<size_t>(c.l.width));
  for (size_t i = 0; i < values.size(); ++i)
    bias[i] = values[i] / (unit.unit * (unit.channels ? (*unit.channels)[i] : 1));
  return AddBias(c, name, x, std::move(bias));
}

NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x) {
  BlockContext c{builder, place, place.layout, place.block.shape, place.block.forms};
  const ResidualUnit &in = place.in, &middle = place.middle, &out = place.out;
  NodeId root = LowerRoot(c, "attention", x, in, c.forms.norm1), result = -1;
  if (c.shape.parallel) {
    NodeId attended = LowerBlockAttention(c, x, root, in, out);
    NodeId fed = LowerBlockFeedForward(c, x, root, in, out);
    result = AddToResidual(c, x, in, out, builder.Add("attention and feed-forward", attended, fed));
  } else {
    NodeId mid = AddToResidual(c, x, in, middle, LowerBlockAttention(c, x, root, in, middle));
    builder.SetMark(mid, Mark::kAttended);
    NodeId scale = LowerRoot(c, "feed-forward", mid, middle, c.forms.norm2);
    result = AddToResidual(c, mid, middle, out, LowerBlockFeedForward(c, mid, scale, middle, out));
  }
  builder.SetMark(result, Mark::kResult);
  return result;
}

Result<Graph> LowerStep(const model::Decoder& decoder, const BlockLayout& layout, int position) {
  if (position < 0 || position >= decoder.context)
    return MakeError(ErrorCode::kOutOfRange, "position = {} outside the context of {} tokens",
                     position, decoder.context);
  const ResidualUnits units = MakeResidualUnits(decoder);
  GraphBuilder builder(Log2(layout.slots));
  builder.Enter(-1, Component::kInput, "");
  NodeId x = builder.Input("token", Log2(layout.width));
  MarkResidual(builder, x);
  for (int i = 0; i < static_cast<int>(decoder.blocks.size()); ++i) {
    const auto at = static_cast<size_t>(i);
    x = LowerBlock(builder,
                   {decoder.blocks[at],
                    layout,
                    i,
                    position + decoder.prefix(),
                    {units.LayerInput(i), units.LayerInputChannels(i)},
                    {units.middle[at], units.middle_channels[at]},
                    {units.output[at], units.output_channels[at]}},
                   x);
  }
  builder.graph().output = x;
  return std::move(builder.graph());
}

}  // namespace polyveil::compile
