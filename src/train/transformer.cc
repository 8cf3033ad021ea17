#include "train/transformer.h"

#include <cmath>

#include "base/check.h"

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
  const Tensor tokens = inputs.to(torch::kCPU, torch::kInt32).contiguous();
  Tensor out = torch::empty({batch, width}, torch::kInt64);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int32_t* text = tokens.data_ptr<std::int32_t>() + b * context;
    std::int64_t* row = out.data_ptr<std::int64_t>() + b * width;
    for (std::int64_t i = 0; i < width; ++i)
      row[i] = model::NgramRow({text + i, static_cast<std::size_t>(n)}, rows);
  }
  return out.to(inputs.device());
}

}  // namespace

Transformer::Transformer(const Shape& shape, AttentionForm attention, torch::ScalarType type,
                         std::uint64_t seed)
    : shape_(shape), attention_(attention), options_(torch::TensorOptions().dtype(type)) {
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
  weights.embed = Normal({shape.vocab_size, shape.d_model}, 0.08, random, options_);
  weights.pos = Normal({shape.context, shape.d_model}, 0.02, random, options_);
  weights.final_norm = torch::ones({shape.d_model}, options_);
  // From 0: the model begins as the one without tables.
  for (const int rows : shape.ngram_rows)
    weights.ngrams.push_back(torch::zeros({rows, shape.d_model}, options_));
  for (int i = 0; i < shape.n_layers; ++i) InitialiseLayer(i, random);
  Weights::Visit(weights, [](const std::string&, Tensor& value) { value.set_requires_grad(true); });
  for (Weights::Layer& layer : weights.layers) layer.shift.set_requires_grad(shape.shifted);
}

Transformer::Transformer(const Shape& shape, AttentionForm attention, Weights from,
                         Tensor frequencies)
    : weights(std::move(from)),
      shape_(shape),
      attention_(attention),
      options_(weights.embed.options().requires_grad(false)),
      frequencies_(std::move(frequencies)) {}

void Transformer::InitialiseLayer(int index, torch::Generator& random) {
  const int d = shape_.d_model, f = shape_.d_ff, heads = shape_.n_heads, q = shape_.q_width();
  const int halves = shape_.bilinear() || shape_.gated ? 2 : 1;
  const double in = 1 / std::sqrt(d);
  const double out = 0.3 / std::sqrt(2.0 * shape_.n_layers);
  Weights::Layer& layer = weights.layers.emplace_back();
  layer.norm1 = torch::ones({d}, options_);
  layer.wqkv = Normal({q + 2 * shape_.kv_width(), d}, 0.7 * in, random, options_);
  layer.wo = Normal({d, q}, out * in, random, options_);
  layer.shift = torch::full({heads}, shape_.shifted ? shape_.shift_start : 0, options_);
  layer.log_kappa = LogCentres(shape_, index, options_);
  layer.centre1 = torch::full({1}, -4.5, options_);
  layer.norm2 = torch::ones({d}, options_);
  layer.w12 = Normal({halves * f, d}, 0.7 * in, random, options_);
  layer.wdown = Normal({d, f}, out / std::sqrt(f), random, options_);
  layer.centre2 = torch::full({1}, -4.5, options_);
  if (!shape_.qk_norm) return;
  layer.qk_gain = torch::ones({heads}, options_);
  layer.query_centre = torch::full({1}, -0.7, options_);
  layer.key_centre = torch::full({1}, -0.7, options_);
}

Transformer Transformer::Share(const Shape& shape, AttentionForm attention) const {
  Transformer out(shape, attention, weights, frequencies_);
  out.polynomials = polynomials;
  out.adapter_scale = adapter_scale;
  return out;
}

Transformer Transformer::Clone(const Shape& shape, AttentionForm attention) const {
  Transformer out = Share(shape, attention);
  Weights::Visit(out.weights,
                 [](const std::string&, Tensor& value) { value = value.detach().clone(); });
  return out;
}

Transformer Transformer::On(torch::Device device) const {
  Transformer out = *this;
  const auto move = [&](Tensor& x) {
    if (x.defined()) x = x.detach().to(device);
  };
  Weights::Visit(out.weights, [&](const std::string&, Tensor& value) { move(value); });
  move(out.frequencies_);
  out.options_ = options_.device(device);
  return out;
}

std::vector<Transformer::Parameter> Transformer::parameters() const {
  std::vector<Parameter> out;
  Weights::Visit(weights, [&](const std::string& name, const Tensor& value) {
    const bool matrix = name.starts_with("layers.") && value.dim() == 2;
    int parts = 1;
    if (name.ends_with("wqkv") && shape_.kv_heads() == shape_.n_heads) parts = 3;
    if (name.ends_with("w12")) parts = static_cast<int>(value.size(0) / shape_.d_ff);
    out.push_back({name, value, matrix, parts, name.starts_with("ngram")});
  });
  return out;
}

Tensor Transformer::Get(const std::string& name) const {
  Tensor found;
  Weights::Visit(weights, [&](const std::string& each, const Tensor& value) {
    if (each == name) found = value;
  });
  PV_CHECK(found.defined(), "no parameter {}", name);
  return found;
}

std::int64_t Transformer::ParameterCount() const {
  std::int64_t count = 0;
  Weights::Visit(weights, [&](const auto&, const Tensor& value) { count += value.numel(); });
  return count;
}

Tensor Transformer::Positions(const Tensor& tokens) const {
  if (!shape_.padding_token) return weights.pos.narrow(0, shape_.position_offset, tokens.size(1));
  const Tensor counted = tokens.ne(*shape_.padding_token).to(torch::kLong);
  const Tensor positions = counted * (counted.cumsum(1) - 1 + shape_.position_offset) +
                           (1 - counted) * *shape_.padding_token;
  return torch::embedding(weights.pos, positions);
}

// Undefined: none.
Tensor Transformer::Ngrams(const Tensor& tokens) const {
  Tensor sum;
  for (std::size_t i = 0; i < weights.ngrams.size(); ++i) {
    const int n = model::kSmallestNgram + static_cast<int>(i);
    if (tokens.size(1) < n) break;
    const Tensor entries =
        torch::embedding(weights.ngrams[i], NgramRows(tokens, n, shape_.ngram_rows[i]));
    const Tensor part = torch::constant_pad_nd(entries, {0, 0, n - 1, 0});
    sum = sum.defined() ? sum + part : part;
  }
  return sum.defined() && ngram_keep.defined() ? sum * ngram_keep : sum;
}

Tensor Transformer::Embed(const Tensor& given) const {
  const Tensor tokens = given.to(device());
  Tensor x = torch::embedding(weights.embed, tokens);
  if (weights.pos.defined()) x = x + Positions(tokens);
  if (weights.type.defined()) x = x + weights.type[0];
  if (const Tensor ngrams = Ngrams(tokens); ngrams.defined()) x = x + ngrams;
  if (!weights.embedding_norm.defined()) return x;
  return Norm(x, weights.embedding_norm, weights.embedding_norm_bias);
}

Tensor Transformer::Finish(const Tensor& x) const {
  return weights.final_norm.defined() ? Norm(x, weights.final_norm, weights.final_norm_bias) : x;
}

ForwardResult Transformer::Forward(const Tensor& inputs, const RangeOptions& range,
                                   const Recorder& recorder, Detail detail) const {
  Pass pass(*this, range, recorder, detail);
  Tensor x = Embed(inputs);
  pass.penalties.AddSize(BehindPrefix(x), range.residual);
  for (int i = 0; i < shape_.n_layers; ++i) x = Block(i, x, pass);
  return {Finish(x).view({-1, shape_.d_model}), pass.penalties.total()};
}

Tensor Transformer::Logits(const Tensor& inputs) const {
  const Tensor hidden = Forward(inputs, {}).hidden;
  return torch::linear(hidden, HeadMatrix()).view({inputs.size(0), inputs.size(1), -1});
}

}  // namespace polyveil::train
