#include "model/formats/weights.h"

#include <algorithm>

#include "model/formats/architecture.h"
#include "model/formats/tensor_binder.h"

namespace polyveil::model {
namespace {

std::vector<Linear> TakeQkv(const Architecture& a, const WeightNames& names, int layer,
                            TensorBinder& binder) {
  const auto& n = names.qkv;
  const auto matrix = [&](std::size_t i, int width) {
    return binder.Matrix(LayerName(n[i], layer), width, a.d_model, a.qkv_bias, names.transposed);
  };
  if (n.size() == 1) return {matrix(0, a.qkv_width())};
  std::vector<Linear> qkv;
  const int widths[] = {a.q_width(), a.kv_width(), a.kv_width()};
  for (std::size_t i = 0; i < 3; ++i) qkv.push_back(matrix(i, widths[i]));
  return qkv;
}

LayerWeights TakeLayer(const Architecture& a, const WeightNames& names, int layer,
                       TensorBinder& binder) {
  LayerWeights w;
  w.attention_norm = binder.TakeNorm(LayerName(names.attention_norm, layer), a);
  w.qkv = TakeQkv(a, names, layer, binder);
  const auto matrix = [&](const std::string& name, int out, int in, bool bias) {
    return binder.Matrix(LayerName(name, layer), out, in, bias, names.transposed);
  };
  w.out = matrix(names.out, a.d_model, a.q_width(), a.out_bias);
  w.ffn_norm = binder.TakeNorm(LayerName(names.ffn_norm, layer), a);
  if (a.gated) w.gate = matrix(names.gate, a.d_ff, a.d_model, a.ffn_bias);
  w.up = matrix(names.up, a.d_ff, a.d_model, a.ffn_bias);
  w.down = matrix(names.down, a.d_model, a.d_ff, a.ffn_bias);
  return w;
}

// A saver of tied tensors keeps one of the two names: either stands for both.
void TakeTokenEmbedding(const Architecture& a, const WeightNames& names, TensorBinder& binder,
                        Weights& weights) {
  const std::string own = names.token_embedding + ".weight", head = names.head + ".weight";
  const bool under_head =
      a.head == HeadKind::kCausalLm && a.tied_head && !binder.Has(own) && binder.Has(head);
  weights.token_embedding = binder.Take(under_head ? head : own, {a.vocab_size, a.d_model});
}

void TakeEmbeddings(const Architecture& a, const WeightNames& names, TensorBinder& binder,
                    Weights& weights) {
  TakeTokenEmbedding(a, names, binder, weights);
  if (!a.rotary)
    weights.position_embedding = binder.Take(names.position_embedding + ".weight",
                                             {a.context + a.position_offset, a.d_model});
  if (a.type_vocab > 0)
    weights.type_embedding =
        binder.Take(names.type_embedding + ".weight", {a.type_vocab, a.d_model});
  if (a.embedding_norm) weights.embedding_norm = binder.TakeNorm(names.embedding_norm, a);
}

// Where a configuration ties the head and the file has one nevertheless, the file's counts: the two
// are tied when they are equal.
void TakeHead(const Architecture& a, const WeightNames& names, TensorBinder& binder,
              BoundWeights& bound) {
  Weights& w = bound.weights;
  const std::string name = names.head + ".weight";
  if (a.tied_head && (!binder.Has(name) || !binder.Has(names.token_embedding + ".weight"))) {
    w.head.weight = w.token_embedding;
    w.head.in = a.d_model;
    w.head.out = a.vocab_size;
    return;
  }
  w.head = binder.Matrix(names.head, a.vocab_size, a.d_model, /*bias=*/false, /*transposed=*/false);
  bound.tied_head = a.tied_head && w.head.weight.type == w.token_embedding.type &&
                    std::ranges::equal(w.head.weight.bytes, w.token_embedding.bytes);
}

}  // namespace

Result<BoundWeights> BindWeights(const Architecture& a, const WeightNames& names,
                                 const TensorViews& tensors) {
  TensorBinder binder(tensors, names);
  BoundWeights bound;
  Weights& w = bound.weights;
  bound.tied_head = a.tied_head;
  TakeEmbeddings(a, names, binder, w);
  // A configuration with more layers than the file is refused before they are made.
  for (int layer = 0; layer < a.n_layers && binder.status().ok(); ++layer)
    w.layers.push_back(TakeLayer(a, names, layer, binder));
  if (a.final_norm) w.final_norm = binder.TakeNorm(names.final_norm, a);
  if (a.head == HeadKind::kCausalLm) TakeHead(a, names, binder, bound);
  if (a.head == HeadKind::kClassifier) {
    w.pooler = binder.Matrix(names.pooler, a.d_model, a.d_model, true, false);
    w.classifier =
        binder.Matrix(names.classifier, static_cast<int>(a.labels.size()), a.d_model, true, false);
  }
  constexpr const char* kFactors = "rope_freqs.weight";
  if (a.rotary && binder.Has(kFactors))
    w.rotary_factors = binder.Vector(kFactors, a.rotary->dims / 2);
  binder.RefuseWeights(a);
  PV_RETURN_IF_ERROR(binder.status());
  bound.unused = binder.unused();
  return bound;
}

}  // namespace polyveil::model
