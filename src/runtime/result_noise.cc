#include "runtime/result_noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/noise_model.h"

namespace polyveil::runtime {
namespace {

// Where an ordinary input lies. The interval's end would bring sqrt(b / a) more of a relative
// error.
double Middle(const approx::Approximant& p) { return std::sqrt(p.a * p.b); }

// Likewise of an attention's divisor, whose interval may begin at 0: where sums were seen, or where
// the inverse 1 / (eps + y) has the middle of its values.
double MiddleOfDivisor(const model::LayerConfig& c) {
  const approx::Approximant& inverse = c.divisor_inverse;
  if (inverse.a > 0) return Middle(inverse);
  if (c.divisor_seen.lo > 0) return std::sqrt(c.divisor_seen.lo * c.divisor_seen.hi);
  return std::sqrt(inverse.b / std::abs(inverse(inverse.a)));
}

double Square(double x) { return x * x; }

NoiseShares Add(const NoiseShares& x, const NoiseShares& y) {
  return {x.fresh + y.fresh, x.bootstrap + y.bootstrap, x.rescale + y.rescale,
          x.key_switch + y.key_switch, x.key_switch_rows + y.key_switch_rows};
}

// All noise times `factor`.
NoiseShares Scale(const NoiseShares& x, double factor) {
  const double f = factor * factor;
  return {f * x.fresh, f * x.bootstrap, f * x.rescale, f * x.key_switch, f * x.key_switch_rows};
}

struct Model {
  const model::Decoder& decoder;
  const compile::ResidualUnits& units;

  double width() const { return decoder.width(); }
  double margin() const { return std::max(1.0, decoder.margin); }
  bool parallel() const { return decoder.blocks.front().shape.parallel; }
  const model::LayerConfig& Layer(size_t layer) const { return decoder.blocks[layer].forms; }
  // Of the residual that the feed-forward reads and adds to.
  double Middle(size_t layer) const {
    return parallel() ? units.output[layer] : units.middle[layer];
  }
};

// The residual stream's noise as it passes the layers.
class ResidualNoise {
 public:
  explicit ResidualNoise(const Model& model) : m_(model) {
    for (size_t i = 0; i < m_.decoder.blocks.size(); ++i) {
      Attention(i);
      FeedForward(i);
    }
  }
  NoiseShares copies{.fresh = 1}, imaginary{.fresh = 1};

 private:
  double InUnit(double bound, double unit) const {
    return bound > 0 ? bound * m_.margin() / unit : 1;
  }
  // What each residual may bring, and rotations of a sum with a key switch of its own each.
  static NoiseShares Own(double key_switches, double row_sums) {
    return {.bootstrap = 1, .rescale = 1, .key_switch = key_switches, .key_switch_rows = row_sums};
  }

  // The projection sums over all copies: what reaches every copy alike is the heads' noise, real
  // but for the divisor's bootstrap and the numerator's last key switch.
  void Attention(size_t layer) {
    const model::LayerConfig& c = m_.Layer(layer);
    const double before = m_.units.LayerInput(static_cast<int>(layer)), unit = m_.Middle(layer);
    const double added = InUnit(c.bounds.attn_out, unit);
    NoiseShares heads;
    if (c.attention.divides()) {
      const double gain = c.bounds.head_out > 0 ? added / InUnit(c.bounds.head_out, 1) : 1;
      const double middle = MiddleOfDivisor(c);
      heads.bootstrap = Square(added * c.divisor_inverse.b / middle);
      heads.key_switch = Square(gain / middle);
    }
    const NoiseShares own = Own(m_.width(), 0);
    copies = Add(Scale(copies, before / unit), own);
    imaginary = Add(Add(Scale(imaginary, before / unit), own), heads);
  }

  // The sum over rows is real but for a conjugation's key switch; the norm's inverse is not: its
  // argument v = |x|^2 / d takes 2 n / (unit sqrt(d v)) of a noise n in x relative to itself.
  void FeedForward(size_t layer) {
    const model::LayerConfig& c = m_.Layer(layer);
    const double before = m_.Middle(layer), unit = m_.units.output[layer];
    const approx::Approximant& norm = m_.parallel() ? c.norm1 : c.norm2;
    const double added = InUnit(c.bounds.ffn_out, unit);
    const double relative = 2 * before / std::sqrt(m_.width() * Middle(norm));
    const double scale = std::max(std::abs(norm(norm.a)), std::abs(norm(norm.b)));
    const double kept = std::hypot(before / unit, relative * added);
    for (NoiseShares* n : {&copies, &imaginary})
      *n = Add(Scale(*n, kept), Own(0, 2 * scale * scale));
  }

  const Model& m_;
};

// The last norm reads the residual before what the block adds behind it: root mean square <=
// sqrt(b) + bound.
double MeanSquareLimit(const Model& m) {
  const model::LayerConfig& last = m.decoder.blocks.back().forms;
  const double added = m.parallel() && last.bounds.ffn_out > 0 ? last.bounds.attn_out : 0;
  if (!(last.bounds.ffn_out > 0)) return INFINITY;
  const approx::Approximant& norm = m.parallel() ? last.norm1 : last.norm2;
  return Square(std::sqrt(norm.b) + m.margin() * (last.bounds.ffn_out + added));
}

// The largest of the roots of the rows' squares.
double LargestRow(const model::Matrix& w) {
  double largest = 0;
  for (int r = 0; r < w.rows; ++r) {
    double squares = 0;
    for (const double value : w.row(r)) squares += Square(value);
    largest = std::max(largest, std::sqrt(squares));
  }
  return largest;
}

// Of logits: what the pooler may make of the noise of what is normalised, and what comes with its
// own values; tanh has no slope above 1. Beyond the last norm's interval nothing is exact.
ResultBounds BoundsOfHead(const model::EncoderHead& head, double normalised, double width) {
  constexpr double kKeySwitches = 256;
  const double pooled = normalised * std::sqrt(width) * LargestRow(head.pooler);
  const double factor = std::hypot(pooled, 2) * LargestRow(head.classifier) / head.forms.bound;
  const NoiseShares shares = Scale(
      {.bootstrap = 1, .rescale = 1, .key_switch = kKeySwitches, .key_switch_rows = 1}, factor);
  return {Square(head.forms.bound), shares, shares};
}

// Of a post-norm encoder, whose last norm is the client's: what the norm before it makes of a
// bootstrap's noise at the least variance, times what the feed-forward and the gain may make of it.
ResultBounds BoundsOfEncoder(const Model& m) {
  constexpr double kGain = 8;           // squared bounds of both, generous
  constexpr double kKeySwitches = 256;  // of its matrices and sums
  const model::LayerConfig& last = m.decoder.blocks.back().forms;
  const double normalised = 1 + std::sqrt(last.norm1.b / last.norm1.a);
  if (m.decoder.head) return BoundsOfHead(*m.decoder.head, kGain * normalised, m.width());
  const double factor = kGain * normalised * std::sqrt(m.width()) / m.units.result();
  const NoiseShares shares = Scale(
      {.bootstrap = 1, .rescale = 1, .key_switch = kKeySwitches, .key_switch_rows = 1}, factor);
  // Beyond its interval's end the last norm is exact all the same.
  return {4 * last.norm2.b, shares, shares};
}

}  // namespace

ResultBounds BoundsOfResult(const model::Decoder& decoder, const compile::ResidualUnits& units) {
  const Model model{decoder, units};
  if (decoder.blocks.front().shape.post_norm) return BoundsOfEncoder(model);
  const ResidualNoise noise(model);
  return {MeanSquareLimit(model), noise.copies, noise.imaginary};
}

ResultNoise PredictResultNoise(const ResultBounds& bounds, int width,
                               const ckks::Parameters& params) {
  const NoiseModel noise = NoiseModel::ForParameters(params);
  const double rows = static_cast<double>(params.slots()) / width;
  const auto root = [&](const NoiseShares& s) {
    return std::sqrt(s.fresh * Square(noise.fresh) + s.bootstrap * Square(noise.bootstrap) +
                     s.rescale * Square(noise.rescale) +
                     (s.key_switch + s.key_switch_rows * rows) * Square(noise.key_switch));
  };
  return {root(bounds.copies), root(bounds.imaginary)};
}

}  // namespace polyveil::runtime
