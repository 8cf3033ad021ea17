#include "compile/token_blocks.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/block_maps.h"
#include "compile/token_block_attention.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

class TokenBlock {
 public:
  explicit TokenBlock(BlockContext& c) : c_(c), b_(c.b), t_(c) {}

  Wholes Run(const Wholes& x) {
    if (c_.shape.post_norm) return RunPostNorm(x);
    const ResidualUnit &in = c_.place.in, &middle = c_.place.middle, &out = c_.place.out;
    TokenNorm norm = Norm("attention", x, in, c_.forms.norm1);
    if (c_.shape.parallel) {
      Wholes update = Attention(x, &norm, in, out);
      const Wholes fed = FeedForward(x, &norm.roots, in, out);
      for (size_t i = 0; i < x.size(); ++i)
        update[i] = b_.Add("attention and feed-forward", update[i], fed[i]);
      return Added(x, in, out, update);
    }
    const Wholes mid = Added(x, in, middle, Attention(x, &norm, in, middle));
    b_.SetMark(mid.front(), Mark::kAttended);
    const TokenNorm second = Norm("feed-forward", mid, middle, c_.forms.norm2);
    return Added(mid, middle, out, FeedForward(mid, &second.roots, middle, out));
  }

 private:
  Wholes Added(const Wholes& x, const ResidualUnit& before, const ResidualUnit& after,
               const Wholes& update) {
    Wholes sums;
    for (size_t i = 0; i < x.size(); ++i)
      sums.push_back(
          AddToResidual(c_, x[i], before, after, update[i], sums.empty() ? -1 : sums.front()));
    return sums;
  }

  Wholes RunPostNorm(const Wholes& x) {
    const ResidualUnit &in = c_.place.in, &middle = c_.place.middle, &ending = c_.place.ending;
    const ResidualUnit normalised{std::sqrt(c_.shape.d_model)};
    const auto gains = c_.place.block.weights->Biases();
    const Wholes attended =
        Carried("attention", x, in, middle, gains->gain_in, Attention(x, nullptr, in, middle));
    b_.SetMark(attended.front(), Mark::kAttended);
    const Wholes mid = Normalised("attention", attended, middle, c_.forms.norm1, normalised);
    Wholes fed = Carried("feed-forward", mid, normalised, ending, gains->gain_mid,
                         FeedForward(mid, nullptr, normalised, ending));
    if (c_.place.head != nullptr) return Logits(fed);
    if (c_.shape.norm_outside) return fed;
    return Normalised("feed-forward", fed, ending, c_.forms.norm2, c_.place.out);
  }

  // `update`, in the unit `after`, and x times the gain without its mean.
  Wholes Carried(const char* part, const Wholes& x, const ResidualUnit& before,
                 const ResidualUnit& after, const std::vector<double>& gain, const Wholes& update) {
    c_.Enter(Component::kNorm, part);
    Wholes sums;
    for (size_t i = 0; i < x.size(); ++i) {
      sums.push_back(b_.Add("residual", Carried(x[i], before, after, gain), update[i]));
      MarkResidual(b_, sums.back(), false, sums.front());
    }
    return sums;
  }

  NodeId Carried(NodeId x, const ResidualUnit& before, const ResidualUnit& after,
                 const std::vector<double>& gain) {
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
    return b_.Sub("carried without mean", carried, mean);
  }

  // masks: of the halves where only some tokens are wanted; none: all are.
  Wholes Normalised(const char* part, const Wholes& x, const ResidualUnit& unit,
                    const approx::Approximant& p, const ResidualUnit& after,
                    const std::vector<Vector>& masks = {}) {
    const TokenNorm norm = Norm(part, x, unit, p);
    const double factor = 0.5 * unit.unit / after.unit;
    const auto in_unit = [&](size_t half) {
      const char* name = "residual in its unit";
      if (masks.empty()) return b_.ChangeUnit(name, norm.doubled[half], factor);
      Vector scaled = masks[half];
      for (Complex& value : scaled) value *= factor;
      return b_.MulPlain(name, norm.doubled[half], std::move(scaled));
    };
    Halves result;
    for (size_t i = 0; i < norm.roots.size(); ++i)
      result.push_back(b_.Mul("normalised", in_unit(i), norm.roots[i]));
    Wholes packed = t_.Pack("normalised", result);
    for (const NodeId each : packed) MarkResidual(b_, each, false, packed.front());
    return packed;
  }

  // 1 in the blocks of the texts' first tokens, by half: what the head's polynomial reads of others
  // lies nowhere. Behind the last token are its copies.
  std::vector<Vector> FirstTokens() const {
    std::vector<bool> first(static_cast<size_t>(c_.place.tokens));
    size_t begin = 0;
    first[0] = true;
    for (const int length : c_.place.texts) {
      if (begin < first.size()) first[begin] = true;
      begin += static_cast<size_t>(length);
    }
    std::vector<Vector> masks;
    const size_t blocks = static_cast<size_t>(c_.l.blocks());
    const size_t block = static_cast<size_t>(c_.l.block());
    for (size_t t = 0; t < static_cast<size_t>(c_.halves()) * blocks; ++t) {
      if (t % blocks == 0) masks.emplace_back(static_cast<size_t>(c_.l.slots));
      if (first[std::min(t, first.size() - 1)])
        std::fill_n(masks.back().begin() + static_cast<std::ptrdiff_t>(t % blocks * block), block,
                    Complex(1));
    }
    return masks;
  }

  // A classifier's head behind the last norm: logits by label at the first slots of each block.
  Wholes Logits(const Wholes& fed) {
    const model::EncoderHead& head = *c_.place.head;
    const ResidualUnit normalised{std::sqrt(c_.shape.d_model)};
    const Wholes x =
        Normalised("head", fed, c_.place.ending, c_.forms.norm2, normalised, FirstTokens());
    c_.Enter(Component::kHead, "head");
    const approx::Approximant& p = head.forms.pooler;
    const double unit = std::max(std::abs(p.a), std::abs(p.b));
    Halves pooled =
        t_.Split("pooled", t_.Linear("pooler products", x,
                                     HeadMap(c_.l, head, MatrixKind::kPooler, c_.place.index,
                                             0.5 * normalised.unit / unit)));
    for (NodeId& value : pooled) {
      value = b_.AddPlain("pooled biased", value, OfHead(head.pooler_bias, 1 / unit));
      value = LowerApproximant(b_, "pooler's function", value, unit, p);
    }
    const Wholes packed = t_.Pack("pooled", pooled);
    for (const NodeId each : packed) {
      b_.SetMagnitude(each, 1);
      b_.MarkCut(each, packed.front());
    }
    Wholes logits = t_.Linear(
        "logits", packed,
        HeadMap(c_.l, head, MatrixKind::kClassifier, c_.place.index, 1 / head.forms.bound));
    for (NodeId& each : logits)
      each = b_.AddPlain("logits biased", each,
                         OfHead(head.classifier_bias, Complex(1, 1) / head.forms.bound));
    return logits;
  }

  Vector OfHead(const std::vector<double>& bias, Complex factor) const {
    Vector values(static_cast<size_t>(c_.l.block()));
    for (size_t i = 0; i < bias.size(); ++i) values[i] = bias[i] * factor;
    return values;
  }

  TokenNorm Norm(const char* part, const Wholes& x, const ResidualUnit& unit,
                 const approx::Approximant& p) {
    c_.Enter(Component::kNorm, part);
    const Halves doubled = t_.Split("residual", x);
    Halves squares;
    for (const NodeId half : doubled) squares.push_back(LowerSquares(c_, half, unit.channels));
    const int log_block = Log2(c_.l.block());
    std::vector<Complex> first(static_cast<size_t>(c_.l.block()));
    first[0] = 1.0 / 8;  // of twice the residual's squares, and twice their sum
    Wholes sums = t_.Pack("squares", squares), spread;
    for (NodeId& sum : sums) {
      sum = b_.RotateSum("variance sums", sum, DoublingRotations(1, log_block));
      spread.push_back(b_.RotateSum("variance spread", b_.MulPlain("variance masked", sum, first),
                                    DoublingRotations(-1, log_block)));
    }
    const double of_sum = unit.unit * unit.unit / c_.shape.d_model;
    TokenNorm norm{t_.Split("variance", spread), sums, of_sum, doubled};
    for (NodeId& value : norm.roots) value = LowerApproximant(b_, "inverse root", value, of_sum, p);
    return norm;
  }

  Wholes Attention(const Wholes& x, const TokenNorm* norm, const ResidualUnit& unit,
                   const ResidualUnit& after) {
    const BlockUnits units = MakeBlockUnits(c_.forms, unit, after);
    const Biases biases = PositionBiases(c_);
    const Halves heads = LowerBlockHeads(c_, t_, x, norm, units, biases);
    c_.Enter(Component::kProjection, "attention");
    Wholes outputs = t_.Linear("projection", t_.Pack("head outputs", heads),
                               Map(units, MatrixKind::kProjection, 0, 1));
    for (NodeId& output : outputs)
      output = AddFeatureBias(c_, "projection biased", output, biases.o, after);
    return outputs;
  }

  LinearMap Map(const BlockUnits& units, MatrixKind kind, int block, double factor) const {
    return BlockMap(c_.l, c_.shape, units, kind, c_.place.index, block, factor);
  }

  // One of the hidden values' matrices times the roots of a norm in front, with its bias: hidden
  // value `first` and those behind it.
  Halves Hidden(const char* name, const Wholes& x, const Halves* roots, const LinearMap& map,
                int first, const std::vector<double>& bias, double unit) {
    Halves parts = t_.Split(name, t_.Linear(std::string(name) + " products", x, map));
    std::vector<Complex> biases(c_.shape.biases ? static_cast<size_t>(c_.l.block()) : 0);
    for (size_t i = 0; i < biases.size(); ++i)
      if (static_cast<size_t>(first) + i < bias.size())
        biases[i] = bias[static_cast<size_t>(first) + i] / unit;
    for (size_t i = 0; i < parts.size(); ++i)
      parts[i] = AddBias(c_, std::string(name) + " biased",
                         roots ? b_.Mul(name, parts[i], (*roots)[i]) : parts[i], biases);
    return parts;
  }

  Wholes FeedForward(const Wholes& x, const Halves* roots, const ResidualUnit& unit,
                     const ResidualUnit& after) {
    c_.Enter(Component::kFeedForward, "feed-forward");
    const BlockUnits units = MakeBlockUnits(c_.forms, unit, after);
    const Biases biases = PositionBiases(c_);
    std::vector<Wholes> products;
    for (int first = 0; first < c_.shape.d_ff; first += c_.l.block()) {
      products.push_back(t_.Pack("product", Product(x, roots, units, biases, first)));
      for (const NodeId product : products.back()) {
        b_.SetMagnitude(product, 1);
        b_.MarkCut(product, products.front().front());
      }
    }
    Wholes sums;
    for (size_t i = 0; i < products.size(); ++i) {
      const Wholes parts = t_.Linear("down products", products[i],
                                     Map(units, MatrixKind::kDown, static_cast<int>(i), 1));
      if (i == 0) sums = parts;
      for (size_t k = 0; i > 0 && k < sums.size(); ++k) sums[k] = b_.Add("down", sums[k], parts[k]);
    }
    for (NodeId& sum : sums) sum = AddFeatureBias(c_, "down biased", sum, biases.down, after);
    return sums;
  }

  Halves Product(const Wholes& x, const Halves* roots, const BlockUnits& units,
                 const Biases& biases, int first) {
    const int matrices = c_.shape.gated ? 2 : 1, block = first / c_.l.block() * matrices;
    const auto hidden = [&](const char* name, int which, const std::vector<double>& bias,
                            double unit) {
      return Hidden(name, x, roots, Map(units, MatrixKind::kHidden, block + which, 0.5), first,
                    bias, unit);
    };
    Halves product = hidden(c_.shape.gated ? "gate" : "hidden", 0,
                            c_.shape.gated ? biases.gate : biases.up, units.gate);
    approx::Approximant activation = *c_.forms.activation;
    for (double& coefficient : activation.coeffs)
      coefficient /= c_.shape.gated ? units.product / units.hidden : units.product;
    for (NodeId& value : product)
      value = LowerApproximant(b_, "activation", value, units.gate, activation);
    if (!c_.shape.gated) return product;
    const Halves up = hidden("up", 1, biases.up, units.hidden);
    for (size_t i = 0; i < product.size(); ++i)
      product[i] = b_.Mul("gated product", product[i], up[i]);
    return product;
  }

  BlockContext& c_;
  GraphBuilder& b_;
  TokenParts t_;
};

}  // namespace

Wholes LowerTokenBlocks(GraphBuilder& builder, const BlockPlace& place, const Wholes& x) {
  BlockContext c{builder, place, place.layout, place.block.shape, place.block.forms};
  Wholes result = TokenBlock(c).Run(x);
  builder.SetMark(result.front(), Mark::kResult);
  return result;
}

}  // namespace polyveil::compile
