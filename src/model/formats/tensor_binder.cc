#include "model/formats/tensor_binder.h"

#include <algorithm>

#include "model/formats/architecture.h"

namespace polyveil::model {
namespace {

// What distributed and compiled training puts around a whole model.
constexpr const char* kWrappers[] = {"", "module.", "_orig_mod."};

// Masks, frequencies and numbers of positions that old versions of transformers saved.
constexpr std::string_view kBuffers[] = {".attn.bias",           ".attn.masked_bias",
                                         ".attention.bias",      ".attention.masked_bias",
                                         ".rotary_emb.inv_freq", "embeddings.position_ids"};

// Heads of other tasks, behind the hidden states.
constexpr std::string_view kOtherHeads[] = {
    "cls.",   "pooler.", "classifier.", "pre_classifier.",      "qa_outputs.",
    "vocab_", "score.",  "v_head.",     "multiple_choice_head."};

template <typename Parts>
bool BeginsWithOneOf(std::string_view name, const Parts& parts) {
  return std::any_of(std::begin(parts), std::end(parts),
                     [&](std::string_view part) { return name.starts_with(part); });
}

}  // namespace

std::string LayerName(const std::string& pattern, int layer) {
  return fmt::format(fmt::runtime(pattern), layer);
}

TensorBinder::TensorBinder(const TensorViews& tensors, const WeightNames& names)
    : tensors_(tensors) {
  for (const auto& [name, view] : tensors_) unused_.insert(name);
  FindPrefix(names);
}

// The first layer's output projection stands in every file under one name only.
void TensorBinder::FindPrefix(const WeightNames& names) {
  const std::string probe = LayerName(names.out, 0) + ".weight";
  std::vector<std::string> prefixes = names.prefixes;
  prefixes.emplace_back();
  prefix_ = prefixes.front();
  std::string found;
  for (const char* wrapper : kWrappers) {
    for (const std::string& prefix : prefixes) {
      const std::string whole = wrapper + prefix + probe;
      if (!tensors_.contains(whole)) continue;
      if (!found.empty())
        Fail(MakeError(ErrorCode::kCorrupt, "tensors \"{}\" and \"{}\" are two models in one file",
                       found, whole));
      found = whole;
      wrapper_ = wrapper;
      prefix_ = prefix;
    }
  }
}

std::vector<std::string> TensorBinder::NamesOf(const std::string& name) const {
  if (prefix_.empty()) return {wrapper_ + name};
  return {wrapper_ + prefix_ + name, wrapper_ + name};
}

bool TensorBinder::Has(const std::string& name) const {
  const auto names = NamesOf(name);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& full) { return tensors_.contains(full); });
}

const TensorView* TensorBinder::Find(const std::string& name) {
  const TensorView* found = nullptr;
  for (const std::string& full : NamesOf(name)) {
    const auto it = tensors_.find(full);
    if (it == tensors_.end()) continue;
    if (found)
      Fail(MakeError(ErrorCode::kCorrupt, "tensors \"{}\" and \"{}\" stand for one weight",
                     found->name, full));
    found = &it->second;
  }
  if (!found)
    Fail(MakeError(ErrorCode::kNotFound, "tensor \"{}\" is missing ({} tensors, prefix \"{}\")",
                   name, tensors_.size(), wrapper_ + prefix_));
  return status_.ok() ? found : nullptr;
}

TensorView TensorBinder::Take(const std::string& name, std::vector<std::int64_t> shape) {
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

std::vector<float> TensorBinder::Vector(const std::string& name, int size) {
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

Linear TensorBinder::Matrix(const std::string& name, int out, int in, bool bias, bool transposed) {
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

NormWeights TensorBinder::TakeNorm(const std::string& name, const Architecture& a) {
  // Files of the first BERT release call a norm's gain gamma and its bias beta.
  const bool old = Has(name + ".gamma");
  NormWeights norm{Vector(name + (old ? ".gamma" : ".weight"), a.d_model), {}};
  if (a.norm == NormKind::kLayerNorm)
    norm.bias = Vector(name + (old ? ".beta" : ".bias"), a.d_model);
  return norm;
}

bool TensorBinder::MayStayUnused(std::string_view name, bool causal_head) const {
  const auto ends = [&](std::string_view part) { return name.ends_with(part); };
  if (std::any_of(std::begin(kBuffers), std::end(kBuffers), ends)) return true;
  name.remove_prefix(name.starts_with(wrapper_) ? wrapper_.size() : 0);
  name.remove_prefix(name.starts_with(prefix_) ? prefix_.size() : 0);
  return BeginsWithOneOf(name, kOtherHeads) || (!causal_head && name.starts_with("lm_head."));
}

void TensorBinder::RefuseWeights(const Architecture& a) {
  for (const std::string& name : unused_)
    if (!MayStayUnused(name, a.head == HeadKind::kCausalLm))
      Fail(
          MakeError(ErrorCode::kMismatch,
                    "tensor \"{}\" {} has no place in {} with {} layers: leaving it out may change "
                    "the model",
                    name, ShapeText(tensors_.at(name).shape), a.family, a.n_layers));
}

}  // namespace polyveil::model
