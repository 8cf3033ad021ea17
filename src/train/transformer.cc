#include "train/transformer.h"

#include <cmath>

#include "base/check.h"
#include "model/ngram.h"
#include "train/hinges.h"
#include "train/linear.h"
#include "train/row_functions.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

Tensor Normal(std::vector<std::int64_t> shape, double deviation, torch::Generator& random,
              const torch::TensorOptions& options) {
  // Drawn in double, so that both scalar types start from the same numbers.
  return (torch::randn(shape, random, torch::TensorOptions().dtype(torch::kFloat64)) * deviation)
      .to(options.dtype());
}

// log E (s + c)^p of the first step, by head: c^p, or the moment of a normal score without a shift.
Tensor LogCentres(const Shape& shape, int layer, const torch::TensorOptions& options) {
  const double deviation = shape.qk_norm ? 1 : 0.49;  // of the scores of random weights
  std::vector<double> centres;
  for (const int power : shape.HeadPowers(layer)) {
    double centre = power * std::log(shape.shifted ? shape.shift_start : deviation);
    for (int k = power - 1; k > 1 && !shape.shifted; k -= 2) centre += std::log(k);
    if (!shape.length_agnostic) centre += std::log(shape.context / 2.0);
    centres.push_back(centre);
  }
  return torch::tensor(centres, torch::kFloat64).to(options.dtype());
}

// Rows for the n tokens up to each position from n - 1 on: [batch, context - n + 1].
Tensor NgramRows(const Tensor& inputs, int n, std::int64_t rows) {
  const std::int64_t batch = inputs.size(0), context = inputs.size(1), width = context - n + 1;
  const Tensor tokens = inputs.to(torch::kInt32).contiguous();
  Tensor out = torch::empty({batch, width}, torch::kInt64);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int32_t* text = tokens.data_ptr<std::int32_t>() + b * context;
    std::int64_t* row = out.data_ptr<std::int64_t>() + b * width;
    for (std::int64_t i = 0; i < width; ++i)
      row[i] = model::NgramRow({text + i, static_cast<std::size_t>(n)}, rows);
  }
  return out;
}

}  // namespace

struct Transformer::Pass {
  const RangeOptions& range;
  const Recorder& recorder;
  Detail detail;
  Penalties penalties;

  bool everything() const { return recorder && detail == Detail::kEverything; }
  void Record(int layer, const char* part, const char* what, const Tensor& values) const {
    if (recorder) recorder(fmt::format("layer {} / {} / {}", layer, part, what), values);
  }
};

Transformer::Transformer(const Shape& shape, AttentionForm attention, torch::ScalarType type,
                         std::uint64_t seed)
    : shape_(shape), attention_(attention), options_(torch::TensorOptions().dtype(type)) {
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
  embed_ = Add("embed", Normal({shape.vocab_size, shape.d_model}, 0.08, random, options_));
  pos_ = Add("pos", Normal({shape.context, shape.d_model}, 0.02, random, options_));
  final_norm_ = Add("final_norm", torch::ones({shape.d_model}, options_));
  // From 0: the model begins as the one without tables.
  for (std::size_t i = 0; i < shape.ngram_rows.size(); ++i) {
    ngrams_.push_back(
        Add(model::NgramName(i), torch::zeros({shape.ngram_rows[i], shape.d_model}, options_)));
    parameters_.back().ngrams = true;
  }
  for (int i = 0; i < shape.n_layers; ++i) AddLayer(i, random);
}

Tensor Transformer::Add(const std::string& name, Tensor value, bool matrix, int parts) {
  value.set_requires_grad(true);
  parameters_.push_back({name, value, matrix, parts});
  return value;
}

void Transformer::AddLayer(int index, torch::Generator& random) {
  const std::string at = fmt::format("layers.{}.", index);
  const int d = shape_.d_model, f = shape_.d_ff;
  const bool bilinear = shape_.ffn == model::FeedForwardKind::kBilinear;
  const double in = 1 / std::sqrt(d);
  const double out = 0.3 / std::sqrt(2.0 * shape_.n_layers);
  Layer layer;
  layer.norm1 = Add(at + "norm1", torch::ones({d}, options_));
  layer.wqkv = Add(at + "wqkv", Normal({3 * d, d}, 0.7 * in, random, options_), true, 3);
  layer.wo = Add(at + "wo", Normal({d, d}, out * in, random, options_), true);
  layer.shift = Add(at + "shift", torch::full({shape_.n_heads},
                                              shape_.shifted ? shape_.shift_start : 0, options_));
  if (!shape_.shifted) layer.shift.set_requires_grad(false);
  layer.log_kappa = Add(at + "log_kappa", LogCentres(shape_, index, options_));
  layer.centre1 = Add(at + "centre1", torch::full({1}, -4.5, options_));
  layer.norm2 = Add(at + "norm2", torch::ones({d}, options_));
  layer.w12 = Add(at + "w12", Normal({(bilinear ? 2 : 1) * f, d}, 0.7 * in, random, options_), true,
                  bilinear ? 2 : 1);
  layer.wdown = Add(at + "wdown", Normal({d, f}, out / std::sqrt(f), random, options_), true);
  layer.centre2 = Add(at + "centre2", torch::full({1}, -4.5, options_));
  if (shape_.qk_norm) {
    layer.qk_gain = Add(at + "qk_gain", torch::ones({shape_.n_heads}, options_));
    layer.query_centre = Add(at + "query_centre", torch::full({1}, -0.7, options_));
    layer.key_centre = Add(at + "key_centre", torch::full({1}, -0.7, options_));
  }
  layers_.push_back(layer);
}

Tensor Transformer::Get(const std::string& name) const {
  for (const Parameter& parameter : parameters_)
    if (parameter.name == name) return parameter.value;
  PV_CHECK(false, "no parameter {}", name);
}

std::int64_t Transformer::ParameterCount() const {
  std::int64_t count = 0;
  for (const Parameter& parameter : parameters_) count += parameter.value.numel();
  return count;
}

Tensor Transformer::NormaliseHeads(int index, const Tensor& qkv, Pass& pass) const {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const LayerPolynomials* fit =
      polynomials ? &(*polynomials)[static_cast<std::size_t>(index)] : nullptr;
  const auto normalise = [&](const char* what, const Tensor& x, const Tensor& centre,
                             const approx::Approximant* root, const Tensor& gain) {
    const Tensor heads = x.reshape({x.size(0), x.size(1), shape_.n_heads, shape_.d_head()});
    const Tensor variance = (heads * heads).mean(-1, true);
    pass.penalties.AddLog(variance, centre, root, pass.range.variance);
    pass.Record(index, "attention", what, variance);
    const Tensor inverse =
        root ? EvaluateApproximant(*root, variance, clamp) : (variance + shape_.norm_eps).rsqrt();
    return (heads * inverse * gain).view(x.sizes());
  };
  const auto parts = qkv.chunk(3, 2);
  const Tensor ones = torch::ones({1, 1, 1, 1}, options_);
  const Tensor q = normalise("query variance", parts[0], layer.query_centre,
                             fit ? &*fit->query_root : nullptr, layer.qk_gain.view({1, 1, -1, 1}));
  const Tensor k =
      normalise("key variance", parts[1], layer.key_centre, fit ? &*fit->key_root : nullptr, ones);
  return torch::cat({q, k, parts[2]}, 2);
}

Tensor Transformer::Attention(int index, const Tensor& x, Pass& pass) const {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const LayerPolynomials* fit =
      polynomials ? &(*polynomials)[static_cast<std::size_t>(index)] : nullptr;
  const Tensor variance = MeanSquare(x);
  const Tensor root =
      fit ? EvaluateApproximant(fit->norm1, variance, clamp) : (variance + shape_.norm_eps).rsqrt();
  pass.penalties.AddLog(variance, layer.centre1, fit ? &fit->norm1 : nullptr, pass.range.variance);
  pass.Record(index, "attention", "variance", variance);  // before whatever comes of it
  Tensor qkv = Linear(ScaleRows(x, layer.norm1, root), layer.wqkv, precision);
  if (shape_.qk_norm) qkv = NormaliseHeads(index, qkv, pass);
  const AttentionForm form = attention(index);
  AttentionOptions options{form, shape_.n_heads, shape_.power, shape_.attention_eps};
  if (!shape_.layer_powers.empty()) options.head_powers = shape_.HeadPowers(index);
  options.mean = shape_.length_agnostic;
  options.clamp = clamp;
  if (fit && form == AttentionForm::kPowerMean) options.inverse = fit->divisor_inverse;
  const bool plain = pass.everything() || form == AttentionForm::kPowerStable;
  AttentionTrace trace;
  const AttentionResult result =
      plain ? PlainAttention(qkv, layer.shift, layer.log_kappa, options, &trace)
            : FusedAttention(qkv, layer.shift, layer.log_kappa, options);
  if (result.divisor.defined())
    pass.penalties.AddLog(result.divisor, torch::zeros({1}, options_),
                          fit ? &fit->divisor_inverse : nullptr, pass.range.divisor);
  const Tensor projected = Linear(result.output, layer.wo, precision);
  const Tensor out = x + projected;
  const char* part = "attention";
  pass.Record(index, part, "variance", variance);
  if (result.divisor.defined()) pass.Record(index, part, "divisor", result.divisor);
  if (pass.everything()) {
    pass.Record(index, part, "input", x);
    pass.Record(index, part, "inverse root", root);
    const auto raw = torch::linear(x * layer.norm1, layer.wqkv).chunk(3, 2);
    const auto parts = qkv.chunk(3, 2);
    pass.Record(index, part, "query raw", raw[0] * shape_.QueryFold());
    pass.Record(index, part, "key raw", raw[1]);
    pass.Record(index, part, "value raw", raw[2]);
    pass.Record(index, part, "query", parts[0] / std::sqrt(static_cast<double>(shape_.d_head())));
    pass.Record(index, part, "key", parts[1]);
    pass.Record(index, part, "value", parts[2]);
    pass.Record(index, part, "scores", trace.scores);
    if (trace.powers.defined()) pass.Record(index, part, "powers", trace.powers);
    if (result.divisor.defined()) pass.Record(index, part, "divisor inverse", trace.inverse);
    pass.Record(index, part, "weights", trace.weights);
    pass.Record(index, part, "head output", result.output);
    pass.Record(index, part, "projection", projected);
  }
  pass.Record(index, part, "residual", out);
  return out;
}

Tensor Transformer::FeedForward(int index, const Tensor& x, Pass& pass) const {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const LayerPolynomials* fit =
      polynomials ? &(*polynomials)[static_cast<std::size_t>(index)] : nullptr;
  const bool bilinear = shape_.ffn == model::FeedForwardKind::kBilinear;
  const Tensor variance = MeanSquare(x);
  pass.penalties.AddLog(variance, layer.centre2, fit ? &fit->norm2 : nullptr, pass.range.variance);
  const Tensor shifted = variance + shape_.norm_eps;
  const Tensor scale = fit        ? EvaluateApproximant(fit->norm2, variance, clamp)
                       : bilinear ? shifted.reciprocal()
                                  : shifted.rsqrt();
  Tensor hidden, product, down, out;
  if (bilinear) {
    hidden = Linear(ScaleRows(x, layer.norm2), layer.w12, precision);
    product = HalvesProduct(hidden);
    down = Linear(product, layer.wdown, precision);
    out = AddScaled(x, down, scale);
  } else {
    hidden = Linear(ScaleRows(x, layer.norm2, scale), layer.w12, precision);
    pass.penalties.AddSize(hidden, pass.range.activation);
    product = fit && fit->activation ? EvaluateApproximant(*fit->activation, hidden, clamp)
                                     : torch::gelu(hidden);
    down = Linear(product, layer.wdown, precision);
    out = x + down;
  }
  const char* part = "feed-forward";
  pass.Record(index, part, "variance", variance);
  pass.Record(index, part, "hidden", hidden);
  pass.Record(index, part, "residual", out);
  if (!pass.everything()) return out;
  pass.Record(index, part, "scale", scale);
  pass.Record(index, part, "product", product);
  pass.Record(index, part, "down", down);
  pass.Record(index, part, "output", bilinear ? down * scale : down);
  return out;
}

Tensor Transformer::Embed(const Tensor& inputs) const {
  const std::int64_t context = inputs.size(1);
  Tensor x = torch::embedding(embed_, inputs) + pos_.narrow(0, 0, context);
  Tensor ngrams;
  for (std::size_t i = 0; i < ngrams_.size(); ++i) {
    const int n = model::kSmallestNgram + static_cast<int>(i);
    if (context < n) break;
    const Tensor entries = torch::embedding(ngrams_[i], NgramRows(inputs, n, shape_.ngram_rows[i]));
    const Tensor part = torch::constant_pad_nd(entries, {0, 0, n - 1, 0});
    ngrams = ngrams.defined() ? ngrams + part : part;
  }
  if (!ngrams.defined()) return x;
  return x + (ngram_keep.defined() ? ngrams * ngram_keep : ngrams);
}

ForwardResult Transformer::Forward(const Tensor& inputs, const RangeOptions& range,
                                   const Recorder& recorder, Detail detail) const {
  Pass pass{range, recorder, detail, Penalties(range, options_)};
  const std::int64_t batch = inputs.size(0), context = inputs.size(1);
  Tensor x = Embed(inputs);
  pass.penalties.AddSize(x, range.residual);
  for (int i = 0; i < shape_.n_layers; ++i) {
    x = Attention(i, x, pass);
    pass.penalties.AddSize(x, range.residual);
    x = FeedForward(i, x, pass);
    pass.penalties.AddSize(x, range.residual);
  }
  const Tensor root = (MeanSquare(x) + shape_.norm_eps).rsqrt();
  return {ScaleRows(x, final_norm_, root).view({batch * context, shape_.d_model}),
          pass.penalties.total()};
}

Tensor Transformer::Logits(const Tensor& inputs) const {
  const Tensor hidden = Forward(inputs, {}).hidden;
  return torch::linear(hidden, embed_).view({inputs.size(0), inputs.size(1), shape_.vocab_size});
}

}  // namespace polyveil::train
