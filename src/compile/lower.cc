#include "compile/lower.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "compile/approximant_lowering.h"
#include "compile/attention_forms.h"

namespace polyveil::compile {

namespace {

using Vector = std::vector<Complex>;

// p(mean(x^2)) in every slot. Depth: 1 + the polynomial's.
NodeId LowerNorm(LayerContext& c, const char* part, NodeId x, double unit,
                 const approx::Approximant& p) {
  c.Enter(Component::kNorm, part);
  GraphBuilder& b = c.builder;
  NodeId squares = b.Square("norm squares", x);
  NodeId sum = b.RotateSum("variance", squares, DoublingRotations(1, Log2(c.layout.d_model)));
  b.SetPeriod(sum, 0);
  const double mean = unit * unit / c.layout.d_model;
  return LowerApproximant(b, "inverse root", sum, mean, p);
}

// K + iQ in the first half of each block, V in the second; the window of each sum starts at the
// token's position, where the cache wants K and V, because a feature vector is periodic: appending
// costs no rotation.
Vector QkvMatrix(const LayerContext& c) {
  const Layout& l = c.layout;
  const double unit = c.units.LayerInput(c.index);
  Vector m(l.slots());
  for (int e = 0; e < l.d_head; ++e) {
    for (int h = 0; h < l.n_heads; ++h) {
      const int first = l.Row(e, h) * l.block() + c.position;
      for (int j = 0; j < l.d_model; ++j) {
        const int column = (first + j) % l.d_model;
        const int row = h * l.d_head + e;
        m[(first + j) % l.slots()] =
            unit * Complex(c.weights.wk.at(row, column), c.weights.wq.at(row, column));
        m[(first + j + l.half()) % l.slots()] = unit * c.weights.wv.at(row, column);
      }
    }
  }
  return m;
}

Qkv LowerQkv(LayerContext& c, NodeId x, NodeId inverse_root) {
  c.Enter(Component::kQkv, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  const int t = c.position;
  NodeId products = b.MulPlain("qkv products", x, QkvMatrix(c));
  NodeId qkv = b.RotateSum("qkv sums", products, DoublingRotations(1, Log2(l.d_model)));
  NodeId conjugate = b.Conjugate("qkv conjugate", qkv);
  if (c.layer.attention.qk_norm) return LowerNormalisedQkv(c, qkv, conjugate, inverse_root);

  Vector kv_mask = BlockMask(l, t, t, [](int) { return 0.5; });
  for (int h = 0; h < l.n_heads; ++h) kv_mask[h * l.head_stride() + t + l.half()] = 0.5;
  NodeId kv = b.MulPlain("kv masked", b.Add("kv sums", qkv, conjugate), std::move(kv_mask));
  b.SetReal(kv, true);
  NodeId key_value = b.Mul("key and value", kv, inverse_root);
  const int log_rows = l.log_slots;
  NodeId before = b.State("cache before", c.index, log_rows);
  NodeId cache = b.Add("cache", before, key_value);
  b.graph().updates.push_back({c.index, cache});

  Vector q_mask = BlockMask(l, t, t, [&](int h) { return Complex(0, -0.5 * ScoreUnit(c, h)); });
  NodeId q = b.MulPlain("query masked", b.Sub("query sums", qkv, conjugate), std::move(q_mask));
  b.SetReal(q, true);
  NodeId scaled = b.Mul("query scaled", q, inverse_root);
  // Rotations to the left bring slot t to every k <= t of its own block; what they carry into the
  // block below meets slots of V that are still empty.
  NodeId query = b.RotateSum("query", scaled, DoublingRotations(1, Log2(l.half())));
  return {query, cache};
}

// (s + c)^p / (kappa N) at k <= position, zero elsewhere; period element_stride.
NodeId LowerPower(LayerContext& c, const Qkv& qkv) {
  c.Enter(Component::kScores, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  NodeId products = b.Mul("score products", qkv.query, qkv.cache);
  NodeId sums =
      b.RotateSum("score sums", products, DoublingRotations(l.element_stride(), Log2(l.d_head)));
  b.SetPeriod(sums, Log2(l.element_stride()));
  NodeId score = b.AddPlain("scores", sums, BlockMask(l, 0, c.position, [&](int h) {
                              return c.layer.shift[h] * ScoreUnit(c, h);
                            }));
  return LowerSummands(c, score);
}

// Head outputs times the divisor's inverse, spread over every slot of their block.
NodeId LowerValues(LayerContext& c, NodeId powers, NodeId cache) {
  if (!c.layer.attention.divides()) return LowerPointwiseValues(c, powers, cache);
  c.Enter(Component::kValues, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  const approx::Approximant& inverse = c.layer.divisor_inverse;
  // i / b beside each value in the cache: one product and one sum give numerator + i y / b.
  Vector ones(l.block());
  for (int k = 0; k <= c.position; ++k) ones[l.half() + k] = Complex(0, 1 / inverse.b);
  NodeId aligned = b.Rotate("powers beside values", powers, -l.half());
  NodeId products =
      b.Mul("value products", aligned, b.AddPlain("values and ones", cache, std::move(ones)));
  NodeId sums = b.RotateSum("value sums", products, DoublingRotations(1, Log2(l.half())));
  Vector mask(l.block());
  mask[l.half()] = 0.5;
  NodeId masked = b.MulPlain("value sums masked", sums, std::move(mask));
  std::vector<int> spread = DoublingRotations(-1, Log2(l.half()));
  spread.push_back(l.half());
  NodeId both = b.RotateSum("numerator and divisor", masked, std::move(spread));
  NodeId conjugate = b.Conjugate("numerator and divisor conjugate", both);
  NodeId numerator = b.Add("numerator", both, conjugate);
  b.SetReal(numerator, true);

  c.Enter(Component::kDivision, "attention");
  NodeId divisor = b.MulByI("divisor", b.Sub("divisor times -i", conjugate, both));
  b.SetPeriod(divisor, Log2(l.element_stride()));
  b.SetReal(divisor, true);
  b.SetMagnitude(divisor, 1);
  b.MarkCut(divisor);
  NodeId inv = LowerApproximant(b, "divisor inverse", divisor, inverse.b, inverse);
  return b.Mul("head outputs", numerator, inv);
}

// rows -> features: matrix entry (i, row) at slot i of the row's block, for `repeat` copies of the
// features in a block.
template <typename F>
Vector RowMatrix(int slots, int rows, int block, int d, F entry) {
  Vector m(slots);
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < block; ++i) m[row * block + i] = entry(i % d, row);
  }
  return m;
}

NodeId LowerAttention(LayerContext& c, NodeId x) {
  const double unit = c.units.LayerInput(c.index), unit_after = c.units.middle[c.index];
  NodeId inverse_root = LowerNorm(c, "attention", x, unit, c.layer.norm1);
  Qkv qkv = LowerQkv(c, x, inverse_root);
  NodeId powers = LowerPower(c, qkv);
  NodeId heads = LowerValues(c, powers, qkv.cache);
  c.Enter(Component::kProjection, "attention");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  Vector wo = RowMatrix(l.slots(), l.d_model, l.block(), l.d_model, [&](int i, int row) {
    return c.weights.wo.at(i, (row % l.n_heads) * l.d_head + row / l.n_heads) / unit_after;
  });
  NodeId products = b.MulPlain("projection products", heads, std::move(wo));
  NodeId output =
      b.RotateSum("projection", products, DoublingRotations(l.block(), Log2(l.d_model)));
  b.SetPeriod(output, Log2(l.d_model));
  return b.Add("residual", b.ChangeUnit("residual in its unit", x, unit / unit_after), output);
}

NodeId LowerFeedForward(LayerContext& c, NodeId x) {
  const double unit_before = c.units.middle[c.index], unit_after = c.units.output[c.index];
  NodeId scale = LowerNorm(c, "feed-forward", x, unit_before, c.layer.norm2);
  c.Enter(Component::kFeedForward, "feed-forward");
  GraphBuilder& b = c.builder;
  const Layout& l = c.layout;
  const int d = l.d_model, rows = l.slots() / d;
  // Hidden values in units of their bound keep the square near 1.
  const double unit = c.layer.bounds.hidden > 0 ? c.layer.bounds.hidden : 1;
  Vector up(l.slots());
  for (int r = 0; r < l.d_ff; ++r) {
    for (int j = 0; j < d; ++j) {
      up[r * d + j] = unit_before / unit * Complex(c.weights.w1.at(r, j), c.weights.w2.at(r, j));
    }
  }
  NodeId products = b.MulPlain("hidden products", x, std::move(up));
  NodeId sums = b.RotateSum("hidden sums", products, DoublingRotations(1, Log2(d)));
  Vector mask(d);
  mask[0] = 1;
  NodeId masked = b.MulPlain("hidden masked", sums, std::move(mask));
  NodeId hidden = b.RotateSum("hidden", masked, DoublingRotations(-1, Log2(d)));
  // (u + iv)^2 = u^2 - v^2 + 2iuv: the gated product is half of the imaginary part, taken as a real
  // part after the matrix.
  NodeId square = b.Square("gated product", hidden);
  const double down_unit = unit * unit / (4 * unit_after);
  Vector down = RowMatrix(l.slots(), l.d_ff, d, d, [&](int i, int row) {
    return Complex(0, -down_unit * c.weights.wdown.at(i, row));
  });
  NodeId down_products = b.MulPlain("down products", square, std::move(down));
  NodeId down_sums = b.RotateSum("down sums", down_products, DoublingRotations(d, Log2(rows)));
  b.SetPeriod(down_sums, Log2(d));
  NodeId real = b.Add("down", down_sums, b.Conjugate("down conjugate", down_sums));
  b.SetReal(real, true);
  NodeId output = b.Mul("output", real, scale);
  return b.Add("residual", b.ChangeUnit("residual in its unit", x, unit_before / unit_after),
               output);
}

void MarkResidual(GraphBuilder& builder, NodeId x) {
  builder.SetMagnitude(x, 1);
  builder.SetReal(x, true);
  builder.MarkCut(x);
}

}  // namespace

NodeId LowerLayer(GraphBuilder& builder, const model::BodyBundle& bundle, const Layout& layout,
                  int position, int layer, NodeId x) {
  LayerContext context{builder,
                       layout,
                       bundle.config,
                       bundle.config.layers[layer],
                       bundle.weights.layers[layer],
                       layer,
                       position,
                       MakeResidualUnits(bundle.config)};
  NodeId middle = LowerAttention(context, x);
  MarkResidual(builder, middle);
  NodeId result = LowerFeedForward(context, middle);
  MarkResidual(builder, result);
  return result;
}

Result<Graph> LowerStep(const model::BodyBundle& bundle, const Layout& layout, int position) {
  const model::ModelConfig& config = bundle.config;
  if (position < 0 || position >= config.context) {
    return MakeError(ErrorCode::kOutOfRange, "position = {} outside the context of {} tokens",
                     position, config.context);
  }
  GraphBuilder builder(layout.log_slots);
  builder.Enter(-1, Component::kInput, "");
  NodeId x = builder.Input("token", Log2(layout.d_model));
  MarkResidual(builder, x);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    x = LowerLayer(builder, bundle, layout, position, layer, x);
  }
  builder.graph().output = x;
  return std::move(builder.graph());
}

}  // namespace polyveil::compile
