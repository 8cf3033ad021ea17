// One block of the trainable model.
#include <cmath>

#include "approx/range.h"
#include "train/activation.h"
#include "train/linear.h"
#include "train/row_functions.h"
#include "train/series.h"
#include "train/transformer.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

}  // namespace

Tensor Transformer::Centred(const Tensor& x) const {
  return shape_.norm == model::NormKind::kLayerNorm ? x - x.mean(-1, true) : x;
}

Tensor Transformer::Norm(const Tensor& x, const Tensor& gain, const Tensor& bias) const {
  const Tensor centred = Centred(x);
  const Tensor out = ScaleRows(centred, gain, (MeanSquare(centred) + shape_.norm_eps).rsqrt());
  return bias.defined() ? out + bias : out;
}

// evaluate(fit, x, clamp) behind the constant prefix, exact(x) inside it and where there is no fit.
template <typename Exact, typename Evaluate>
Tensor Transformer::Fitted(const approx::Approximant* fit, const Tensor& x, const Exact& exact,
                           const Evaluate& evaluate) const {
  if (!fit) return exact(x);
  if (shape_.prefix == 0) return evaluate(*fit, x, clamp);
  const auto parts = x.split_with_sizes({shape_.prefix, x.size(1) - shape_.prefix}, 1);
  return torch::cat({exact(parts[0]), evaluate(*fit, parts[1], clamp)}, 1);
}

// What a block's norm multiplies by: 1 / root of the mean square, or 1 / mean square where a
// bilinear feed-forward stands behind it.
Tensor Transformer::NormFactor(int index, bool first, const Tensor& centred, Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  const LayerPolynomials* fits = FitsOf(index);
  const approx::Approximant* fit = !fits ? nullptr : first ? &fits->norm1 : &fits->norm2;
  const Tensor variance = MeanSquare(centred), seen = BehindPrefix(variance);
  pass.penalties.AddLog(seen, first ? layer.centre1 : layer.centre2, fit, pass.range().variance);
  // Before whatever comes of it.
  pass.Record(index, first ? "attention / variance" : "feed-forward / variance", seen);
  const auto exact = [&](const Tensor& v) {
    const Tensor shifted = v + shape_.norm_eps;
    return !first && shape_.bilinear() ? shifted.reciprocal() : shifted.rsqrt();
  };
  // Clamped, it goes on outside as the exact function does: a vector that is far too long would
  // otherwise leave the norm as long, and no number come out of the layers behind it.
  const auto continued = [&](const approx::Approximant& p, const Tensor& v, double ratio) {
    const Tensor y = EvaluateApproximant(p, v, ratio);
    if (ratio == 0) return y;
    const approx::Range inside = approx::Widened(p.a, p.b, ratio);
    return y * (exact(v) / exact(v.clamp(inside.lo, inside.hi)));
  };
  return Fitted(fit, variance, exact, continued);
}

Tensor Transformer::BlockNorm(int index, bool first, const Tensor& x, Pass& pass,
                              Tensor* factor) const {
  const Weights::Layer& layer = LayerAt(index);
  const Tensor centred = Centred(x), scale = NormFactor(index, first, centred, pass);
  if (factor) *factor = scale;
  const Tensor out = ScaleRows(centred, first ? layer.norm1 : layer.norm2, scale);
  const Tensor& bias = first ? layer.norm1_bias : layer.norm2_bias;
  return bias.defined() ? out + bias : out;
}

// Queries and keys of qkv turned by their positions; pairs are (i, i + n), n frequencies.
Tensor Transformer::Rotate(const Tensor& qkv) const {
  const std::int64_t half = frequencies_.size(0), d_head = shape_.d_head();
  const std::int64_t turned = shape_.n_heads + shape_.kv_heads();
  const Tensor all = qkv.view({qkv.size(0), qkv.size(1), turned + shape_.kv_heads(), d_head});
  const auto heads = all.split_with_sizes({turned, shape_.kv_heads()}, 2);
  const Tensor angles =
      torch::outer(torch::arange(qkv.size(1), options_), frequencies_).view({1, -1, 1, half});
  const Tensor c = angles.cos(), s = angles.sin();
  // Parts of one split: their gradients are put together once, not added up from zeros.
  const auto split = heads[0].split_with_sizes({half, half, d_head - 2 * half}, 3);
  const Tensor &x = split[0], &y = split[1];
  const Tensor turned_heads = torch::cat({x * c - y * s, y * c + x * s, split[2]}, 3);
  return torch::cat({turned_heads, heads[1]}, 2).view(qkv.sizes());
}

Tensor Transformer::NormaliseHeads(int index, const Tensor& qkv, Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  const LayerPolynomials* fits = FitsOf(index);
  const auto normalise = [&](const char* site, const Tensor& x, const Tensor& centre,
                             const approx::Approximant* root, const Tensor& gain) {
    const Tensor heads = x.reshape({x.size(0), x.size(1), -1, shape_.d_head()});
    const Tensor variance = (heads * heads).mean(-1, true);
    pass.penalties.AddLog(BehindPrefix(variance), centre, root, pass.range().variance);
    pass.Record(index, site, BehindPrefix(variance));
    const auto exact = [&](const Tensor& v) { return (v + shape_.norm_eps).rsqrt(); };
    const Tensor inverse = Fitted(root, variance, exact, EvaluateApproximant);
    return (heads * inverse * gain).view(x.sizes());
  };
  const std::int64_t q = shape_.q_width(), kv = shape_.kv_width();
  const auto parts = qkv.split_with_sizes({q, kv, kv}, 2);
  const Tensor ones = torch::ones({1, 1, 1, 1}, options_);
  const Tensor queries =
      normalise("attention / query variance", parts[0], layer.query_centre,
                fits ? &*fits->query_root : nullptr, layer.qk_gain.view({1, 1, -1, 1}));
  const Tensor keys = normalise("attention / key variance", parts[1], layer.key_centre,
                                fits ? &*fits->key_root : nullptr, ones);
  return torch::cat({queries, keys, parts[2]}, 2);
}

std::vector<Transformer::SiteRows> Transformer::QkvSites() const {
  const std::int64_t kv = shape_.kv_width();
  return {
      {AdapterSite::kQuery, shape_.q_width()}, {AdapterSite::kKey, kv}, {AdapterSite::kValue, kv}};
}

std::vector<Transformer::SiteRows> Transformer::InSites() const {
  const std::int64_t f = shape_.d_ff;
  if (shape_.gated) return {{AdapterSite::kGate, f}, {AdapterSite::kUp, f}};
  return {{AdapterSite::kUp, shape_.bilinear() ? 2 * f : f}};
}

LowRank Transformer::UpdateOf(int index, const std::vector<SiteRows>& sites) const {
  const Weights::Layer& layer = LayerAt(index);
  std::vector<Tensor> right, left;
  std::int64_t rank = 0, at = 0;
  for (const SiteRows& each : sites)
    if (const LowRank& own = layer.adapter(each.site); own.a.defined()) rank += own.a.size(0);
  if (rank == 0) return {};
  for (const auto& [site, rows] : sites) {
    const LowRank& own = layer.adapter(site);
    if (!own.a.defined()) {
      left.push_back(torch::zeros({rows, rank}, options_));
      continue;
    }
    const std::int64_t own_rank = own.a.size(0);
    right.push_back(own.a);
    left.push_back(torch::constant_pad_nd(own.b, {at, rank - at - own_rank}));
    at += own_rank;
  }
  return {torch::cat(right), torch::cat(left) * adapter_scale};
}

// Queries, keys and values of a normed input.
Tensor Transformer::Project(int index, const Tensor& normed, Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  Tensor qkv = Linear(normed, layer.wqkv, precision, layer.bqkv, UpdateOf(index, QkvSites()));
  if (frequencies_.defined()) qkv = Rotate(qkv);
  return shape_.qk_norm ? NormaliseHeads(index, qkv, pass) : qkv;
}

AttentionOptions Transformer::attention_options(int index) const {
  const AttentionForm form = attention(index);
  AttentionOptions options{form, shape_.n_heads, shape_.power, shape_.attention_eps};
  if (!shape_.layer_powers.empty()) options.head_powers = shape_.HeadPowers(index);
  options.mean = shape_.length_agnostic;
  options.clamp = clamp;
  options.n_kv_heads = shape_.n_kv_heads;
  options.causal = shape_.causal;
  options.exact_rows = shape_.prefix;
  if (polynomials && form == AttentionForm::kPowerMean)
    options.inverse = FitsOf(index)->divisor_inverse;
  return options;
}

Tensor Transformer::Attention(int index, const Tensor& x, Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  const LayerPolynomials* fits = FitsOf(index);
  Tensor normed = x, root;
  if (shape_.block != model::BlockForm::kPostNorm) normed = BlockNorm(index, true, x, pass, &root);
  const Tensor qkv = Project(index, normed, pass);
  AttentionTrace trace;
  const AttentionResult result = Attend(qkv, layer.shift, layer.log_kappa, attention_options(index),
                                        pass.everything() ? &trace : nullptr);
  if (result.divisor.defined()) {
    const Tensor divisor = BehindPrefix(result.divisor, 2);
    pass.penalties.AddLog(divisor, torch::zeros({1}, options_),
                          fits ? &fits->divisor_inverse : nullptr, pass.range().divisor);
    pass.Record(index, "attention / divisor", divisor);
  }
  const Tensor out = Linear(result.output, layer.wo, precision, layer.bo,
                            UpdateOf(index, {{AdapterSite::kOut, layer.wo.size(0)}}));
  if (!pass.everything()) return out;
  pass.Record(index, "attention / input", BehindPrefix(x));
  if (root.defined()) pass.Record(index, "attention / inverse root", BehindPrefix(root));
  RecordRaw(index, x, pass);
  RecordHeads(index, qkv, trace, pass);
  pass.Record(index, "attention / head output", BehindPrefix(result.output));
  pass.Record(index, "attention / projection", BehindPrefix(out));
  return out;
}

// Projections before the norm's factor, for programs that multiply by it afterwards: none of rotary
// models or of those with biases.
void Transformer::RecordRaw(int index, const Tensor& x, const Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  if (frequencies_.defined() || layer.bqkv.defined()) return;
  const std::int64_t q = shape_.q_width(), kv = shape_.kv_width();
  const auto raw = torch::linear(BehindPrefix(Centred(x)) * layer.norm1, layer.wqkv)
                       .split_with_sizes({q, kv, kv}, 2);
  pass.Record(index, "attention / query raw", raw[0] * shape_.QueryFold());
  pass.Record(index, "attention / key raw", raw[1]);
  pass.Record(index, "attention / value raw", raw[2]);
}

void Transformer::RecordHeads(int index, const Tensor& qkv, const AttentionTrace& trace,
                              const Pass& pass) const {
  const std::int64_t q = shape_.q_width(), kv = shape_.kv_width();
  const auto parts = BehindPrefix(qkv).split_with_sizes({q, kv, kv}, 2);
  pass.Record(index, "attention / query",
              parts[0] / std::sqrt(static_cast<double>(shape_.d_head())));
  pass.Record(index, "attention / key", parts[1]);
  pass.Record(index, "attention / value", parts[2]);
  pass.Record(index, "attention / scores", BehindPrefix(trace.scores, 2));
  if (trace.powers.defined())
    pass.Record(index, "attention / powers", BehindPrefix(trace.powers, 2));
  if (trace.inverse.defined())
    pass.Record(index, "attention / divisor inverse", BehindPrefix(trace.inverse, 2));
  pass.Record(index, "attention / weights", BehindPrefix(trace.weights, 2));
}

HeadScores Transformer::Scores(int index, const Tensor& x) const {
  Pass pass(*this);
  const bool post = shape_.block == model::BlockForm::kPostNorm;
  const Tensor qkv = Project(index, post ? x : BlockNorm(index, true, x, pass), pass);
  return ScoreHeads(qkv, attention_options(index));
}

Tensor Transformer::Activated(int index, const Tensor& gate) const {
  const LayerPolynomials* fits = FitsOf(index);
  const auto exact = [&](const Tensor& x) { return Activate(shape_.activation, x); };
  return Fitted(fits && fits->activation ? &*fits->activation : nullptr, gate, exact, FusedSeries);
}

// What the last matrix of a feed-forward reads.
Tensor Transformer::Product(int index, const Tensor& hidden, Pass& pass) const {
  if (shape_.bilinear()) {
    pass.Record(index, "feed-forward / hidden", BehindPrefix(hidden));
    return HalvesProduct(hidden);
  }
  const auto halves = hidden.split(shape_.d_ff, 2);  // or all of it
  const Tensor& gate = halves[0];
  pass.penalties.AddSize(BehindPrefix(gate), pass.range().activation);
  pass.Record(index, "feed-forward / hidden", BehindPrefix(gate));
  const Tensor active = Activated(index, gate);
  return shape_.gated ? active * halves[1] : active;
}

// residual + what the feed-forward makes of x.
Tensor Transformer::FeedForward(int index, const Tensor& residual, const Tensor& x,
                                Pass& pass) const {
  const Weights::Layer& layer = LayerAt(index);
  const bool bilinear = shape_.bilinear();
  Tensor normed = x, scale;
  if (bilinear) {  // its norm comes behind the product
    const Tensor centred = Centred(x);
    scale = NormFactor(index, false, centred, pass);
    normed = ScaleRows(centred, layer.norm2);
  } else if (shape_.block != model::BlockForm::kPostNorm) {
    normed = BlockNorm(index, false, x, pass, &scale);
  }
  const Tensor hidden = Linear(normed, layer.w12, precision, layer.b12, UpdateOf(index, InSites()));
  const Tensor product = Product(index, hidden, pass);
  const Tensor down = Linear(product, layer.wdown, precision, layer.bdown,
                             UpdateOf(index, {{AdapterSite::kDown, layer.wdown.size(0)}}));
  const Tensor out = bilinear ? AddScaled(residual, down, scale) : residual + down;
  if (!pass.everything()) return out;
  if (scale.defined()) pass.Record(index, "feed-forward / scale", BehindPrefix(scale));
  pass.Record(index, "feed-forward / product", BehindPrefix(product));
  pass.Record(index, "feed-forward / down", BehindPrefix(down));
  pass.Record(index, "feed-forward / output", BehindPrefix(bilinear ? down * scale : down));
  return out;
}

Tensor Transformer::Block(int index, const Tensor& x, Pass& pass, Tensor* attended) const {
  const bool post = shape_.block == model::BlockForm::kPostNorm;
  const Tensor attention = Attention(index, x, pass);
  if (attended) *attended = attention;
  const auto post_norm = [&](bool first, const Tensor& sum) {
    Tensor factor;
    const Tensor out = BlockNorm(index, first, sum, pass, &factor);
    if (pass.everything())
      pass.Record(index, first ? "attention / inverse root" : "feed-forward / scale",
                  BehindPrefix(factor));
    return out;
  };
  Tensor mid = x + attention;
  if (post) mid = post_norm(true, mid);
  pass.Record(index, "attention / residual", BehindPrefix(mid));
  pass.penalties.AddSize(BehindPrefix(mid), pass.range().residual);
  Tensor out = FeedForward(index, mid, shape_.block == model::BlockForm::kParallel ? x : mid, pass);
  if (post) out = post_norm(false, out);
  pass.Record(index, "feed-forward / residual", BehindPrefix(out));
  pass.penalties.AddSize(BehindPrefix(out), pass.range().residual);
  return out;
}

}  // namespace polyveil::train
