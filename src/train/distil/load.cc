#include "train/distil/load.h"

#include "model/float32/layers.h"

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

Weights::Layer LoadLayer(const model::Architecture& a, const model::LayerWeights& w,
                         const torch::TensorOptions& options) {
  Weights::Layer layer;
  std::vector<const model::Linear*> qkv, in;
  for (const model::Linear& linear : w.qkv) qkv.push_back(&linear);
  if (a.gated) in.push_back(&w.gate);
  in.push_back(&w.up);
  layer.norm1 = Wide(w.attention_norm.gain, options);
  layer.norm1_bias = Wide(w.attention_norm.bias, options);
  layer.wqkv = HeadRows(a, Stacked(qkv, options));
  layer.bqkv = HeadRows(a, StackedBias(qkv, options));
  layer.wo = Matrix(w.out, options);
  layer.bo = Wide(w.out.bias, options);
  layer.norm2 = Wide(w.ffn_norm.gain, options);
  layer.norm2_bias = Wide(w.ffn_norm.bias, options);
  layer.w12 = Stacked(in, options);
  layer.b12 = StackedBias(in, options);
  layer.wdown = Matrix(w.down, options);
  layer.bdown = Wide(w.down.bias, options);
  layer.shift = torch::full({a.n_heads}, 2, options);
  layer.log_kappa = torch::zeros({a.n_heads}, options);
  layer.centre1 = torch::zeros({1}, options);
  layer.centre2 = torch::zeros({1}, options);
  return layer;
}

Shape ShapeOf(const model::Architecture& a, int prefix) {
  Shape shape;
  shape.n_layers = a.n_layers;
  shape.d_model = a.d_model;
  shape.n_heads = a.n_heads;
  shape.d_ff = a.d_ff;
  shape.ffn = model::FeedForwardKind::kGelu;
  shape.vocab_size = a.vocab_size;
  shape.context = a.context;
  shape.norm_eps = a.norm_eps;
  shape.n_kv_heads = a.n_kv_heads;
  shape.head_width = a.d_head;
  shape.norm = a.norm;
  shape.block = a.form;
  shape.activation = a.activation;
  shape.gated = a.gated;
  shape.causal = a.causal;
  shape.predicts = a.head == model::HeadKind::kCausalLm;
  shape.position_offset = a.position_offset;
  shape.padding_token = a.padding_token;
  shape.prefix = prefix;
  return shape;
}

}  // namespace

Tensor QkvRowsInFile(const model::Architecture& a) {
  return HeadRows(a, torch::arange(a.qkv_width(), torch::kInt64));
}

Result<Transformer> LoadReleased(const model::Checkpoint& checkpoint, int prefix,
                                 torch::ScalarType type,
                                 std::optional<torch::ScalarType> matrices) {
  const model::Architecture& a = checkpoint.architecture;
  const model::Weights& w = checkpoint.weights;
  if (a.head == model::HeadKind::kClassifier)
    return MakeError(ErrorCode::kMismatch, "{}: a classifier with {} labels, no model of text",
                     a.family, a.labels.size());
  const auto options = torch::TensorOptions().dtype(type);
  Weights out;
  out.embed = Decoded(w.token_embedding, options);
  out.pos = Decoded(w.position_embedding, options);
  out.type = Decoded(w.type_embedding, options);
  out.embedding_norm = Wide(w.embedding_norm.gain, options);
  out.embedding_norm_bias = Wide(w.embedding_norm.bias, options);
  out.final_norm = Wide(w.final_norm.gain, options);
  out.final_norm_bias = Wide(w.final_norm.bias, options);
  if (a.head == model::HeadKind::kCausalLm && !a.tied_head) out.head = Matrix(w.head, options);
  for (const model::LayerWeights& layer : w.layers) {
    out.layers.push_back(LoadLayer(a, layer, options));
    Weights::Layer& last = out.layers.back();
    for (Tensor* matrix : {&last.wqkv, &last.wo, &last.w12, &last.wdown})
      *matrix = matrix->to(matrices.value_or(type));
  }
  Tensor frequencies;
  if (a.rotary)
    frequencies = Wide(model::RotaryTable(*a.rotary, w.rotary_factors).frequencies(), options);
  return Transformer(ShapeOf(a, prefix), AttentionForm::kSoftmax, std::move(out), frequencies);
}

}  // namespace polyveil::train
