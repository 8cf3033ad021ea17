#include "train/distil/released_model.h"

#include <cmath>

#include "base/check.h"
#include "model/float32/layers.h"
#include "train/distil/activation.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

Tensor Wide(const std::vector<float>& values, const torch::TensorOptions& options) {
  if (values.empty()) return {};
  return torch::tensor(values, torch::kFloat32).to(options.dtype());
}

Tensor Decoded(const model::TensorView& view, const torch::TensorOptions& options) {
  if (view.empty()) return {};
  return Wide(model::DecodeAll(view), options).view({view.rows(), view.cols()});
}

Tensor Matrix(const model::Linear& linear, const torch::TensorOptions& options) {
  const Tensor stored = Decoded(linear.weight, options);
  return linear.transposed ? stored.t().contiguous() : stored;
}

// Rows of several projections below each other; biases likewise.
Tensor Stacked(const std::vector<const model::Linear*>& linears,
               const torch::TensorOptions& options) {
  std::vector<Tensor> rows;
  for (const model::Linear* linear : linears) rows.push_back(Matrix(*linear, options));
  return torch::cat(rows);
}

Tensor StackedBias(const std::vector<const model::Linear*>& linears,
                   const torch::TensorOptions& options) {
  std::vector<Tensor> biases;
  for (const model::Linear* linear : linears)
    if (!linear->bias.empty()) biases.push_back(Wide(linear->bias, options));
  return biases.empty() ? Tensor() : torch::cat(biases);
}

// Rows of a fused projection in the order all queries, all keys, all values, rotary pairs halves.
Tensor HeadRows(const model::Architecture& a, const Tensor& rows) {
  if (!rows.defined()) return rows;
  const std::int64_t width = rows.dim() == 2 ? rows.size(1) : 1;
  Tensor out = rows;
  if (a.qkv_order == model::QkvOrder::kPerHead)
    out = out.reshape({a.n_heads, 3, a.d_head, width}).transpose(0, 1).reshape(rows.sizes());
  if (!a.rotary || a.rotary->pairs == model::RotaryPairs::kHalves) return out.contiguous();
  const std::int64_t dims = a.rotary->dims, heads = a.n_heads + a.n_kv_heads;
  const Tensor split = out.reshape({heads + a.n_kv_heads, a.d_head, width});
  const Tensor pairs = split.slice(0, 0, heads).slice(1, 0, dims);
  const Tensor halves = pairs.reshape({heads, dims / 2, 2, width}).transpose(1, 2);
  const Tensor rotated =
      torch::cat({halves.reshape(pairs.sizes()), split.slice(0, 0, heads).slice(1, dims)}, 1);
  return torch::cat({rotated, split.slice(0, heads)}).reshape(rows.sizes()).contiguous();
}

ReleasedModel::Layer LoadLayer(const model::Architecture& a, const model::LayerWeights& w,
                               const torch::TensorOptions& options) {
  ReleasedModel::Layer layer;
  std::vector<const model::Linear*> qkv, in;
  for (const model::Linear& linear : w.qkv) qkv.push_back(&linear);
  if (a.gated) in.push_back(&w.gate);
  in.push_back(&w.up);
  layer.norm1 = Wide(w.attention_norm.gain, options);
  layer.norm1_bias = Wide(w.attention_norm.bias, options);
  layer.qkv = HeadRows(a, Stacked(qkv, options));
  layer.qkv_bias = HeadRows(a, StackedBias(qkv, options));
  layer.out = Matrix(w.out, options);
  layer.out_bias = Wide(w.out.bias, options);
  layer.norm2 = Wide(w.ffn_norm.gain, options);
  layer.norm2_bias = Wide(w.ffn_norm.bias, options);
  layer.in = Stacked(in, options);
  layer.in_bias = StackedBias(in, options);
  layer.down = Matrix(w.down, options);
  layer.down_bias = Wide(w.down.bias, options);
  layer.shift = torch::full({a.n_heads}, 2, options);
  layer.log_kappa = torch::zeros({a.n_heads}, options);
  layer.centre1 = torch::zeros({1}, options);
  layer.centre2 = torch::zeros({1}, options);
  return layer;
}

}  // namespace

ReleasedModel::ReleasedModel(const model::Architecture& architecture, torch::ScalarType type)
    : architecture_(architecture), options_(torch::TensorOptions().dtype(type)) {}

Result<ReleasedModel> ReleasedModel::Load(const model::Checkpoint& checkpoint,
                                          torch::ScalarType type) {
  const model::Architecture& a = checkpoint.architecture;
  const model::Weights& w = checkpoint.weights;
  if (a.head == model::HeadKind::kClassifier)
    return MakeError(ErrorCode::kMismatch, "{}: a classifier with {} labels, no model of text",
                     a.family, a.labels.size());
  ReleasedModel model(a, type);
  const torch::TensorOptions& options = model.options_;
  model.token_embedding = Decoded(w.token_embedding, options);
  model.position_embedding = Decoded(w.position_embedding, options);
  model.type_embedding = Decoded(w.type_embedding, options);
  model.embedding_norm = Wide(w.embedding_norm.gain, options);
  model.embedding_norm_bias = Wide(w.embedding_norm.bias, options);
  model.final_norm = Wide(w.final_norm.gain, options);
  model.final_norm_bias = Wide(w.final_norm.bias, options);
  if (a.head == model::HeadKind::kCausalLm && !a.tied_head) model.head = Matrix(w.head, options);
  for (const model::LayerWeights& layer : w.layers)
    model.layers.push_back(LoadLayer(a, layer, options));
  if (a.rotary)
    model.frequencies_ =
        Wide(model::RotaryTable(*a.rotary, w.rotary_factors).frequencies(), options);
  model.architecture_.qkv_order = model::QkvOrder::kBlocks;
  if (a.rotary) model.architecture_.rotary->pairs = model::RotaryPairs::kHalves;
  return model;
}

ReleasedModel ReleasedModel::Clone() const {
  ReleasedModel copy = *this;
  const auto clone = [](Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.detach().clone();
  };
  copy.Visit([&](const std::string&, const Tensor& tensor) { clone(const_cast<Tensor&>(tensor)); });
  return copy;
}

Tensor ReleasedModel::BehindPrefix(const Tensor& x, int dim) const {
  return forms.prefix == 0 ? x : x.narrow(dim, forms.prefix, x.size(dim) - forms.prefix);
}

void ReleasedModel::Record(const Pass& pass, int layer, const char* site,
                           const Tensor& values) const {
  if (pass.recorder) pass.recorder(fmt::format("layer {} / {}", layer, site), values);
}

Tensor ReleasedModel::Normalize(const Tensor& x, const Tensor& gain, const Tensor& bias) const {
  const bool centred = architecture_.norm == model::NormKind::kLayerNorm;
  const Tensor around = centred ? x - x.mean(-1, true) : x;
  const Tensor root = ((around * around).mean(-1, true) + architecture_.norm_eps).rsqrt();
  const Tensor out = around * root * gain;
  return bias.defined() ? out + bias : out;
}

Tensor ReleasedModel::LayerNormalize(int index, bool first, const Tensor& x, Pass& pass) const {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const approx::Approximant* fit = nullptr;
  if (polynomials) {
    const LayerPolynomials& fits = (*polynomials)[static_cast<std::size_t>(index)];
    fit = first ? &fits.norm1 : &fits.norm2;
  }
  const bool centred = architecture_.norm == model::NormKind::kLayerNorm;
  const Tensor around = centred ? x - x.mean(-1, true) : x;
  const Tensor variance = (around * around).mean(-1, true);
  const Tensor seen = BehindPrefix(variance);
  pass.penalties.AddLog(seen, first ? layer.centre1 : layer.centre2, fit,
                        pass.penalties.range().variance);
  const auto exact = [&](const Tensor& v) { return (v + architecture_.norm_eps).rsqrt(); };
  Tensor root = fit ? EvaluateApproximant(*fit, seen, clamp) : exact(seen);
  Record(pass, index, first ? "attention / variance" : "feed-forward / variance", seen);
  Record(pass, index, first ? "attention / inverse root" : "feed-forward / scale", root);
  if (forms.prefix > 0) root = torch::cat({exact(variance.narrow(1, 0, forms.prefix)), root}, 1);
  const Tensor out = around * root * (first ? layer.norm1 : layer.norm2);
  const Tensor& bias = first ? layer.norm1_bias : layer.norm2_bias;
  return bias.defined() ? out + bias : out;
}

// heads [batch, context, n, d_head].
Tensor ReleasedModel::Rotate(const Tensor& heads) const {
  const std::int64_t half = frequencies_.size(0), d_head = heads.size(3);
  const Tensor angles =
      torch::outer(torch::arange(heads.size(1), options_), frequencies_).view({1, -1, 1, half});
  const Tensor c = angles.cos(), s = angles.sin();
  const Tensor x = heads.narrow(3, 0, half), y = heads.narrow(3, half, half);
  std::vector<Tensor> parts = {x * c - y * s, y * c + x * s};
  if (d_head > 2 * half) parts.push_back(heads.narrow(3, 2 * half, d_head - 2 * half));
  return torch::cat(parts, 3);
}

Tensor ReleasedModel::Project(int index, const Tensor& x) const {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const Tensor qkv = torch::linear(x, layer.qkv, layer.qkv_bias);
  if (!architecture_.rotary) return qkv;
  const model::Architecture& a = architecture_;
  const std::int64_t turned = a.n_heads + a.n_kv_heads;
  const Tensor heads = qkv.view({x.size(0), x.size(1), turned + a.n_kv_heads, a.d_head});
  return torch::cat({Rotate(heads.narrow(2, 0, turned)), heads.narrow(2, turned, a.n_kv_heads)}, 2)
      .view(qkv.sizes());
}

AttentionOptions ReleasedModel::attention_options(int layer) const {
  AttentionOptions options{forms.attention, architecture_.n_heads, forms.power, forms.eps};
  options.n_kv_heads = architecture_.n_kv_heads;
  options.causal = architecture_.causal;
  options.exact_rows = forms.prefix;
  options.clamp = clamp;
  if (polynomials)
    options.inverse = (*polynomials)[static_cast<std::size_t>(layer)].divisor_inverse;
  return options;
}

Tensor ReleasedModel::Mix(int index, const Tensor& normed, Pass& pass) const {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const Tensor qkv = Project(index, normed);
  const AttentionOptions options = attention_options(index);
  const AttentionResult result = FusedAttention(qkv, layer.shift, layer.log_kappa, options);
  if (result.divisor.defined())
    pass.penalties.AddLog(BehindPrefix(result.divisor, 2), torch::zeros({1}, options_),
                          options.inverse ? &*options.inverse : nullptr,
                          pass.penalties.range().divisor);
  const Tensor out = torch::linear(result.output, layer.out, layer.out_bias);
  if (pass.recorder) {
    RecordHeads(index, normed, qkv, pass);
    Record(pass, index, "attention / head output", BehindPrefix(result.output));
    Record(pass, index, "attention / projection", BehindPrefix(out));
  }
  return out;
}

Tensor ReleasedModel::Activate(const Tensor& x) const {
  switch (architecture_.activation) {
    case model::Activation::kGelu:
      return torch::gelu(x);
    case model::Activation::kGeluTanh:
      return torch::gelu(x, "tanh");
    case model::Activation::kSilu:
      return torch::silu(x);
    case model::Activation::kRelu:
      return torch::relu(x);
  }
  return x;
}

Tensor ReleasedModel::FeedForward(int index, const Tensor& normed, Pass& pass) const {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const Tensor in = torch::linear(normed, layer.in, layer.in_bias);
  const std::int64_t d_ff = architecture_.d_ff;
  const Tensor gate = architecture_.gated ? in.narrow(2, 0, d_ff) : in;
  pass.penalties.AddSize(BehindPrefix(gate), pass.penalties.range().activation);
  Tensor active;
  if (polynomials) {
    const auto& p = *(*polynomials)[static_cast<std::size_t>(index)].activation;
    active = FusedSeries(p, BehindPrefix(gate), clamp);
    if (forms.prefix > 0)
      active = torch::cat({Activate(gate.narrow(1, 0, forms.prefix)), active}, 1);
  } else {
    active = Activate(gate);
  }
  const Tensor product = architecture_.gated ? active * in.narrow(2, d_ff, d_ff) : active;
  const Tensor out = torch::linear(product, layer.down, layer.down_bias);
  if (pass.recorder) {
    Record(pass, index, "feed-forward / hidden", BehindPrefix(gate));
    Record(pass, index, "feed-forward / product", BehindPrefix(product));
    Record(pass, index, "feed-forward / down", BehindPrefix(out));
    Record(pass, index, "feed-forward / output", BehindPrefix(out));
  }
  return out;
}

Tensor ReleasedModel::Attention(int index, const Tensor& x, Pass& pass) const {
  const bool post = architecture_.form == model::BlockForm::kPostNorm;
  return Mix(index, post ? x : LayerNormalize(index, true, x, pass), pass);
}

Tensor ReleasedModel::Block(int index, const Tensor& x, Pass& pass, Tensor* attended) const {
  const RangeOptions& range = pass.penalties.range();
  Record(pass, index, "attention / input", BehindPrefix(x));
  const Tensor attention = Attention(index, x, pass);
  if (attended) *attended = attention;
  Tensor mid = x + attention, out;
  switch (architecture_.form) {
    case model::BlockForm::kPreNorm:
      out = mid + FeedForward(index, LayerNormalize(index, false, mid, pass), pass);
      break;
    case model::BlockForm::kParallel:
      out = mid + FeedForward(index, LayerNormalize(index, false, x, pass), pass);
      break;
    case model::BlockForm::kPostNorm:
      mid = LayerNormalize(index, true, mid, pass);
      out = LayerNormalize(index, false, mid + FeedForward(index, mid, pass), pass);
      break;
  }
  pass.penalties.AddSize(BehindPrefix(mid), range.residual);
  pass.penalties.AddSize(BehindPrefix(out), range.residual);
  Record(pass, index, "attention / residual", BehindPrefix(mid));
  Record(pass, index, "feed-forward / residual", BehindPrefix(out));
  return out;
}

Tensor ReleasedModel::PositionEmbeddings(const Tensor& tokens) const {
  const model::Architecture& a = architecture_;
  if (!a.padding_token) return position_embedding.narrow(0, a.position_offset, tokens.size(1));
  const Tensor counted = tokens.ne(*a.padding_token).to(torch::kLong);
  const Tensor positions =
      counted * (counted.cumsum(1) - 1 + a.position_offset) + (1 - counted) * *a.padding_token;
  return torch::embedding(position_embedding, positions);
}

Tensor ReleasedModel::Embed(const Tensor& tokens) const {
  Tensor x = torch::embedding(token_embedding, tokens);
  if (position_embedding.defined()) x = x + PositionEmbeddings(tokens);
  if (type_embedding.defined()) x = x + type_embedding[0];
  return architecture_.embedding_norm ? Normalize(x, embedding_norm, embedding_norm_bias) : x;
}

Tensor ReleasedModel::Finish(const Tensor& x) const {
  return architecture_.final_norm ? Normalize(x, final_norm, final_norm_bias) : x;
}

Tensor ReleasedModel::Hidden(const Tensor& tokens, Pass& pass) const {
  Tensor x = Embed(tokens);
  for (int i = 0; i < architecture_.n_layers; ++i) x = Block(i, x, pass);
  return Finish(x);
}

Tensor ReleasedModel::Hidden(const Tensor& tokens) const {
  Pass pass(*this);
  return Hidden(tokens, pass);
}

Tensor ReleasedModel::Logits(const Tensor& hidden) const {
  return torch::linear(hidden, head.defined() ? head : token_embedding);
}

ReleasedModel::Heads ReleasedModel::ScoreHeads(int index, const Tensor& x) const {
  Pass pass(*this);
  const bool post = architecture_.form == model::BlockForm::kPostNorm;
  const Tensor qkv = Project(index, post ? x : LayerNormalize(index, true, x, pass));
  const model::Architecture& a = architecture_;
  const std::int64_t group = a.n_heads / a.n_kv_heads;
  const Tensor heads =
      qkv.view({x.size(0), x.size(1), a.n_heads + 2 * a.n_kv_heads, a.d_head}).transpose(1, 2);
  const Tensor keys = heads.narrow(1, a.n_heads, a.n_kv_heads).repeat_interleave(group, 1);
  const Tensor values =
      heads.narrow(1, a.n_heads + a.n_kv_heads, a.n_kv_heads).repeat_interleave(group, 1);
  const Tensor scores = torch::matmul(heads.narrow(1, 0, a.n_heads), keys.transpose(2, 3)) /
                        std::sqrt(static_cast<double>(a.d_head));
  return {scores, values};
}

// Everything between the projections and the weighted sum, for bounds: the same numbers as the
// fused kernel's, which shows none of them. Requires the power form.
void ReleasedModel::RecordHeads(int index, const Tensor& normed, const Tensor& qkv,
                                const Pass& pass) const {
  const model::Architecture& a = architecture_;
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const double root = std::sqrt(static_cast<double>(a.d_head));
  const std::int64_t q = a.q_width(), kv = a.kv_width(), n = normed.size(1);
  const Tensor behind = BehindPrefix(qkv);
  Record(pass, index, "attention / query", behind.narrow(2, 0, q) / root);
  Record(pass, index, "attention / key", behind.narrow(2, q, kv));
  Record(pass, index, "attention / value", behind.narrow(2, q + kv, kv));
  if (forms.attention != AttentionForm::kPowerMean) return;
  const Tensor heads = qkv.view({qkv.size(0), n, -1, a.d_head}).transpose(1, 2);
  const Tensor keys =
      heads.narrow(1, a.n_heads, a.n_kv_heads).repeat_interleave(a.n_heads / a.n_kv_heads, 1);
  const Tensor mask =
      a.causal ? torch::ones({n, n}, options_).tril() : torch::ones({n, n}, options_);
  const Tensor z = (torch::matmul(heads.narrow(1, 0, a.n_heads), keys.transpose(2, 3)) / root +
                    layer.shift.view({1, -1, 1, 1})) *
                   mask;
  const Tensor count = mask.sum(1).view({1, 1, -1, 1});
  const Tensor powers =
      IntegerPower(z, forms.power) / (layer.log_kappa.exp().view({1, -1, 1, 1}) * count);
  const Tensor divisor = BehindPrefix(powers.sum(-1, true), 2);
  const AttentionOptions options = attention_options(index);
  const Tensor inverse = options.inverse ? EvaluateApproximant(*options.inverse, divisor, clamp)
                                         : 1 / (forms.eps + divisor);
  Record(pass, index, "attention / scores", BehindPrefix(z, 2));
  Record(pass, index, "attention / powers", BehindPrefix(powers, 2));
  Record(pass, index, "attention / divisor", divisor);
  Record(pass, index, "attention / divisor inverse", inverse);
  Record(pass, index, "attention / weights", BehindPrefix(powers, 2) * inverse);
}

}  // namespace polyveil::train
