#include "compile/token_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/block_maps.h"
#include "compile/token_block_attention.h"

namespace polyveil::compile {
namespace {

class TokenBlock {
 public:
  explicit TokenBlock(BlockContext& c) : c_(c), b_(c.b), t_(c) {}

  NodeId Run(NodeId x) {
    if (c_.shape.post_norm) return RunPostNorm(x);
    const ResidualUnit &in = c_.place.in, &middle = c_.place.middle, &out = c_.place.out;
    TokenNorm norm = Norm("attention", x, in, c_.forms.norm1);
    if (c_.shape.parallel) {
      NodeId attended = Attention(x, &norm, in, out), fed = FeedForward(x, &norm.roots, in, out);
      return AddToResidual(c_, x, in, out, b_.Add("attention and feed-forward", attended, fed));
    }
    NodeId mid = AddToResidual(c_, x, in, middle, Attention(x, &norm, in, middle));
    b_.SetMark(mid, Mark::kAttended);
    const TokenNorm second = Norm("feed-forward", mid, middle, c_.forms.norm2);
    return AddToResidual(c_, mid, middle, out, FeedForward(mid, &second.roots, middle, out));
  }

 private:
  NodeId RunPostNorm(NodeId x) {
    const ResidualUnit &in = c_.place.in, &middle = c_.place.middle, &ending = c_.place.ending;
    const ResidualUnit normalised{std::sqrt(c_.shape.d_model)};
    const auto gains = c_.place.block.weights->Biases();
    const NodeId attended =
        Carried("attention", x, in, middle, gains->gain_in, Attention(x, nullptr, in, middle));
    b_.SetMark(attended, Mark::kAttended);
    const NodeId mid = Normalised("attention", attended, middle, c_.forms.norm1, normalised);
    const NodeId fed = Carried("feed-forward", mid, normalised, ending, gains->gain_mid,
                               FeedForward(mid, nullptr, normalised, ending));
    if (c_.shape.norm_outside) return fed;
    return Normalised("feed-forward", fed, ending, c_.forms.norm2, c_.place.out);
  }

  // `update`, in the unit `after`, and x times the gain without its mean.
  NodeId Carried(const char* part, NodeId x, const ResidualUnit& before, const ResidualUnit& after,
                 const std::vector<double>& gain, NodeId update) {
    c_.Enter(Component::kNorm, part);
    const int log_block = Log2(c_.l.block());
    NodeId carried = b_.MulPlain(
        "carried", x, ByFeature(c_, [&](size_t i) { return gain[i] * before.unit / after.unit; }));
    std::vector<Complex> first(static_cast<size_t>(c_.l.block()));
    first[0] = 1.0 / c_.shape.d_model;
    NodeId mean = b_.RotateSum("carried sum", carried, DoublingRotations(1, log_block));
    mean = b_.RotateSum("carried mean", b_.MulPlain("carried sum masked", mean, std::move(first)),
                        DoublingRotations(-1, log_block));
    if (c_.shape.d_model < c_.l.block())  // padding stays zero
      mean = b_.MulPlain("carried mean of features", mean, ByFeature(c_, [](size_t) { return 1; }));
    NodeId sum = b_.Add("residual", b_.Sub("carried without mean", carried, mean), update);
    MarkResidual(b_, sum, false);
    return sum;
  }

  NodeId Normalised(const char* part, NodeId x, const ResidualUnit& unit,
                    const approx::Approximant& p, const ResidualUnit& after) {
    const TokenNorm norm = Norm(part, x, unit, p);
    Both result;
    for (size_t i = 0; i < 2; ++i)
      result[i] = b_.Mul(
          "normalised",
          b_.ChangeUnit("residual in its unit", norm.doubled[i], 0.5 * unit.unit / after.unit),
          norm.roots[i]);
    const NodeId packed = t_.Pack("normalised", result);
    MarkResidual(b_, packed, false);
    return packed;
  }

  TokenNorm Norm(const char* part, NodeId x, const ResidualUnit& unit,
                 const approx::Approximant& p) {
    c_.Enter(Component::kNorm, part);
    const Both doubled = t_.Split("residual", x);
    Both squares;
    for (size_t i = 0; i < 2; ++i) squares[i] = LowerSquares(c_, doubled[i], unit.channels);
    const int log_block = Log2(c_.l.block());
    NodeId sums =
        b_.RotateSum("variance sums", t_.Pack("squares", squares), DoublingRotations(1, log_block));
    std::vector<Complex> first(static_cast<size_t>(c_.l.block()));
    first[0] = 1.0 / 8;  // of twice the residual's squares, and twice their sum
    NodeId spread =
        b_.RotateSum("variance spread", b_.MulPlain("variance masked", sums, std::move(first)),
                     DoublingRotations(-1, log_block));
    const double of_sum = unit.unit * unit.unit / c_.shape.d_model;
    TokenNorm norm{t_.Split("variance", spread), sums, of_sum, doubled};
    for (NodeId& value : norm.roots) value = LowerApproximant(b_, "inverse root", value, of_sum, p);
    return norm;
  }

  NodeId Attention(NodeId x, const TokenNorm* norm, const ResidualUnit& unit,
                   const ResidualUnit& after) {
    const BlockUnits units = MakeBlockUnits(c_.forms, unit, after);
    const Biases biases = PositionBiases(c_);
    const Both heads = LowerBlockHeads(c_, t_, x, norm, units, biases);
    c_.Enter(Component::kProjection, "attention");
    NodeId output = b_.Linear("projection", t_.Pack("head outputs", heads),
                              Map(units, MatrixKind::kProjection, 0, 1), false);
    return AddFeatureBias(c_, "projection biased", output, biases.o, after);
  }

  LinearMap Map(const BlockUnits& units, MatrixKind kind, int block, double factor) const {
    return BlockMap(c_.l, c_.shape, units, kind, c_.place.index, block, factor);
  }

  // One of the hidden values' matrices times the roots of a norm in front, with its bias: hidden
  // value `first` and those behind it.
  Both Hidden(const char* name, NodeId x, const Both* roots, LinearMap map, int first,
              const std::vector<double>& bias, double unit) {
    Both parts =
        t_.Split(name, b_.Linear(std::string(name) + " products", x, std::move(map), false));
    std::vector<Complex> biases(c_.shape.biases ? static_cast<size_t>(c_.l.block()) : 0);
    for (size_t i = 0; i < biases.size(); ++i)
      if (static_cast<size_t>(first) + i < bias.size())
        biases[i] = bias[static_cast<size_t>(first) + i] / unit;
    for (size_t i = 0; i < 2; ++i)
      parts[i] = AddBias(c_, std::string(name) + " biased",
                         roots ? b_.Mul(name, parts[i], (*roots)[i]) : parts[i], biases);
    return parts;
  }

  NodeId FeedForward(NodeId x, const Both* roots, const ResidualUnit& unit,
                     const ResidualUnit& after) {
    c_.Enter(Component::kFeedForward, "feed-forward");
    const BlockUnits units = MakeBlockUnits(c_.forms, unit, after);
    const Biases biases = PositionBiases(c_);
    std::vector<NodeId> products;
    for (int first = 0; first < c_.shape.d_ff; first += c_.l.block()) {
      products.push_back(t_.Pack("product", Product(x, roots, units, biases, first)));
      b_.SetMagnitude(products.back(), 1);
      b_.MarkCut(products.back(), products.front());
    }
    NodeId sum = -1;
    for (size_t i = 0; i < products.size(); ++i) {
      NodeId part = b_.Linear("down products", products[i],
                              Map(units, MatrixKind::kDown, static_cast<int>(i), 1), false);
      sum = sum < 0 ? part : b_.Add("down", sum, part);
    }
    return AddFeatureBias(c_, "down biased", sum, biases.down, after);
  }

  Both Product(NodeId x, const Both* roots, const BlockUnits& units, const Biases& biases,
               int first) {
    const int matrices = c_.shape.gated ? 2 : 1, block = first / c_.l.block() * matrices;
    const auto hidden = [&](const char* name, int which, const std::vector<double>& bias,
                            double unit) {
      return Hidden(name, x, roots, Map(units, MatrixKind::kHidden, block + which, 0.5), first,
                    bias, unit);
    };
    Both product = hidden(c_.shape.gated ? "gate" : "hidden", 0,
                          c_.shape.gated ? biases.gate : biases.up, units.gate);
    approx::Approximant activation = *c_.forms.activation;
    for (double& coefficient : activation.coeffs)
      coefficient /= c_.shape.gated ? units.product / units.hidden : units.product;
    for (NodeId& value : product)
      value = LowerApproximant(b_, "activation", value, units.gate, activation);
    if (!c_.shape.gated) return product;
    const Both up = hidden("up", 1, biases.up, units.hidden);
    for (size_t i = 0; i < 2; ++i) product[i] = b_.Mul("gated product", product[i], up[i]);
    return product;
  }

  BlockContext& c_;
  GraphBuilder& b_;
  TokenParts t_;
};

}  // namespace

NodeId LowerTokenBlocks(GraphBuilder& builder, const BlockPlace& place, NodeId x) {
  BlockContext c{builder, place, place.layout, place.block.shape, place.block.forms};
  NodeId result = TokenBlock(c).Run(x);
  builder.SetMark(result, Mark::kResult);
  return result;
}

}  // namespace polyveil::compile
