#include "model/hub/weights.h"

namespace polyveil::model::hub {
namespace {

// Finds tensors by name and remembers which were taken. The first error stays; what follows it
// reads as empty.
class Binder {
 public:
  Binder(const TensorViews& tensors, std::string prefix) : tensors_(tensors), prefix_(prefix) {}

  TensorView Take(const std::string& name, std::vector<std::int64_t> shape) {
    const TensorView* found = Find(name);
    if (!found) return {};
    if (found->shape != shape) {
      Fail(MakeError(ErrorCode::kMismatch, "tensor \"{}\": shape {}, the configuration needs {}",
                     found->name, ShapeText(found->shape), ShapeText(shape)));
      return {};
    }
    if (!FormatOf(found->type).real) {
      Fail(MakeError(ErrorCode::kCorrupt, "tensor \"{}\": type {} holds no weights", found->name,
                     FormatOf(found->type).name));
      return {};
    }
    unused_.erase(found->name);
    return *found;
  }

  std::vector<float> Vector(const std::string& name, int size) {
    const TensorView view = Take(name, {size});
    if (view.empty()) return {};
    if (FormatOf(view.type).block_elements != 1) {
      Fail(MakeError(ErrorCode::kMismatch, "tensor \"{}\": {} blocks in a vector of {}", view.name,
                     FormatOf(view.type).name, size));
      return {};
    }
    if (Status finite = CheckFinite(view); !finite.ok()) Fail(finite.error());
    return DecodeAll(view);
  }

  Linear Matrix(const std::string& name, int out, int in, bool bias, bool transposed) {
    Linear linear;
    linear.in = in;
    linear.out = out;
    linear.transposed = transposed;
    linear.weight = Take(name + ".weight", transposed ? std::vector<std::int64_t>{in, out}
                                                      : std::vector<std::int64_t>{out, in});
    // Tiles of a transposed matrix begin inside rows: plain types only.
    if (transposed && FormatOf(linear.weight.type).block_elements != 1)
      Fail(MakeError(ErrorCode::kMismatch, "tensor \"{}\": {} blocks in a transposed matrix",
                     linear.weight.name, FormatOf(linear.weight.type).name));
    if (bias) linear.bias = Vector(name + ".bias", out);
    return linear;
  }

  Norm TakeNorm(const std::string& name, const Architecture& a) {
    // Files of the first BERT release call a norm's gain gamma and its bias beta.
    const bool old = Has(name + ".gamma");
    Norm norm{Vector(name + (old ? ".gamma" : ".weight"), a.d_model), {}};
    if (a.norm == NormKind::kLayerNorm)
      norm.bias = Vector(name + (old ? ".beta" : ".bias"), a.d_model);
    return norm;
  }

  bool Has(const std::string& name) const {
    return tensors_.contains(prefix_ + name) || tensors_.contains(name);
  }

  std::set<std::string>& unused() { return unused_; }
  const Status& status() const { return status_; }
  void CountAll() {
    for (const auto& [name, view] : tensors_) unused_.insert(name);
  }

 private:
  const TensorView* Find(const std::string& name) {
    for (const std::string& full : {prefix_ + name, name})
      if (const auto it = tensors_.find(full); it != tensors_.end()) return &it->second;
    Fail(MakeError(ErrorCode::kNotFound, "tensor \"{}\" is missing ({} tensors, prefix \"{}\")",
                   name, tensors_.size(), prefix_));
    return nullptr;
  }
  void Fail(Error error) {
    if (status_.ok()) status_ = std::move(error);
  }

  const TensorViews& tensors_;
  std::string prefix_;
  std::set<std::string> unused_;
  Status status_;
};

std::string Layer(const std::string& pattern, int layer) {
  return fmt::format(fmt::runtime(pattern), layer);
}

std::vector<Linear> TakeQkv(const Architecture& a, const WeightNames& names, int layer,
                            Binder& binder) {
  const auto& n = names.qkv;
  if (n.size() == 1)
    return {
        binder.Matrix(Layer(n[0], layer), a.qkv_width(), a.d_model, a.qkv_bias, names.transposed)};
  std::vector<Linear> qkv;
  const int widths[] = {a.q_width(), a.kv_width(), a.kv_width()};
  for (std::size_t i = 0; i < 3; ++i)
    qkv.push_back(
        binder.Matrix(Layer(n[i], layer), widths[i], a.d_model, a.qkv_bias, names.transposed));
  return qkv;
}

LayerWeights TakeLayer(const Architecture& a, const WeightNames& names, int layer, Binder& binder) {
  LayerWeights w;
  w.attention_norm = binder.TakeNorm(Layer(names.attention_norm, layer), a);
  w.qkv = TakeQkv(a, names, layer, binder);
  const auto matrix = [&](const std::string& name, int out, int in, bool bias) {
    return binder.Matrix(Layer(name, layer), out, in, bias, names.transposed);
  };
  w.out = matrix(names.out, a.d_model, a.q_width(), a.out_bias);
  w.ffn_norm = binder.TakeNorm(Layer(names.ffn_norm, layer), a);
  if (a.gated) w.gate = matrix(names.gate, a.d_ff, a.d_model, a.ffn_bias);
  w.up = matrix(names.up, a.d_ff, a.d_model, a.ffn_bias);
  w.down = matrix(names.down, a.d_model, a.d_ff, a.ffn_bias);
  return w;
}

Linear TakeHead(const Architecture& a, const WeightNames& names, const Weights& weights,
                Binder& binder) {
  if (!a.tied_head)
    return binder.Matrix(names.head, a.vocab_size, a.d_model, /*bias=*/false, /*transposed=*/false);
  Linear head;
  head.weight = weights.token_embedding;
  head.in = a.d_model;
  head.out = a.vocab_size;
  return head;
}

void TakeEmbeddings(const Architecture& a, const WeightNames& names, Binder& binder,
                    Weights& weights) {
  weights.token_embedding =
      binder.Take(names.token_embedding + ".weight", {a.vocab_size, a.d_model});
  if (!a.rotary)
    weights.position_embedding = binder.Take(names.position_embedding + ".weight",
                                             {a.context + a.position_offset, a.d_model});
  if (a.type_vocab > 0)
    weights.type_embedding =
        binder.Take(names.type_embedding + ".weight", {a.type_vocab, a.d_model});
  if (a.embedding_norm) weights.embedding_norm = binder.TakeNorm(names.embedding_norm, a);
}

}  // namespace

Result<BoundWeights> BindWeights(const Architecture& a, const WeightNames& names,
                                 const TensorViews& tensors) {
  Binder binder(tensors, names.prefix);
  binder.CountAll();
  BoundWeights bound;
  Weights& w = bound.weights;
  TakeEmbeddings(a, names, binder, w);
  // A configuration with more layers than the file is refused before they are made.
  for (int layer = 0; layer < a.n_layers && binder.status().ok(); ++layer)
    w.layers.push_back(TakeLayer(a, names, layer, binder));
  if (a.final_norm) w.final_norm = binder.TakeNorm(names.final_norm, a);
  if (a.head == HeadKind::kCausalLm) w.head = TakeHead(a, names, w, binder);
  if (a.head == HeadKind::kClassifier) {
    w.pooler = binder.Matrix(names.pooler, a.d_model, a.d_model, true, false);
    w.classifier =
        binder.Matrix(names.classifier, static_cast<int>(a.labels.size()), a.d_model, true, false);
  }
  constexpr const char* kFactors = "rope_freqs.weight";
  if (a.rotary && binder.Has(kFactors))
    w.rotary_factors = binder.Vector(kFactors, a.rotary->dims / 2);
  PV_RETURN_IF_ERROR(binder.status());
  bound.unused = std::move(binder.unused());
  return bound;
}

}  // namespace polyveil::model::hub
