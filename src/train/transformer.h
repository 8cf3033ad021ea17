// The trainable model, embedded or released: weights, forward pass, range penalties, and a look at
// every intermediate. Softmax, powers or polynomials in every place.
#pragma once

#include <torch/torch.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/ngram.h"
#include "train/attention.h"
#include "train/cross_entropy.h"
#include "train/hinges.h"
#include "train/linear.h"
#include "train/train_config.h"

namespace polyveil::train {

// The polynomials of one layer, in the place of the exact functions.
struct LayerPolynomials {
  approx::Approximant norm1, divisor_inverse, norm2;
  std::optional<approx::Approximant> activation{};              // no bilinear feed-forward has one
  std::optional<approx::Approximant> query_root{}, key_root{};  // QK-norm only
};

// visit(key, site, polynomial) for every polynomial of a layer: its name in files, and the name of
// its inputs behind "layer L / ".
template <typename Layer, typename F>
void VisitPolynomials(Layer& fits, F visit) {
  visit("norm1", "attention / variance", fits.norm1);
  visit("divisor_inverse", "attention / divisor", fits.divisor_inverse);
  visit("norm2", "feed-forward / variance", fits.norm2);
  if (fits.activation) visit("activation", "feed-forward / hidden", *fits.activation);
  if (fits.query_root) visit("query_root", "attention / query variance", *fits.query_root);
  if (fits.key_root) visit("key_root", "attention / key variance", *fits.key_root);
}

// Called with intermediates by site, e.g. ("layer 2 / attention / variance", tensor), at the
// positions behind the constant prefix. Names as in model/block_reference.h.
using Recorder = std::function<void(const std::string& site, const torch::Tensor& values)>;

// What a recorder is told. kIntervals: the polynomials' inputs and the residuals; attention keeps
// its fused form and everything its gradients.
enum class Detail { kEverything, kIntervals };

// The projections that a low-rank update may stand beside.
enum class AdapterSite { kQuery, kKey, kValue, kOut, kGate, kUp, kDown };
inline constexpr std::array kAdapterSiteNames{"q", "k", "v", "o", "gate", "up", "down"};

// Every tensor of a model; what a model has not is undefined.
struct Weights {
  struct Layer {
    torch::Tensor norm1, norm1_bias, wqkv, bqkv, wo, bo;
    torch::Tensor norm2, norm2_bias, w12, b12, wdown, bdown;  // w12: gate above up where gated
    torch::Tensor shift, log_kappa;                           // [n_heads]
    torch::Tensor centre1, centre2;  // of the log variances, learnt by the hinge alone
    torch::Tensor qk_gain, query_centre, key_centre;  // QK-norm only
    std::array<LowRank, kAdapterSiteNames.size()> adapters;
    LowRank& adapter(AdapterSite site) { return adapters[static_cast<std::size_t>(site)]; }
    const LowRank& adapter(AdapterSite site) const {
      return adapters[static_cast<std::size_t>(site)];
    }
  };

  torch::Tensor embed, pos, type, embedding_norm, embedding_norm_bias;
  torch::Tensor final_norm, final_norm_bias;
  std::vector<torch::Tensor> ngrams;  // [rows, d_model], by n from 2 on
  torch::Tensor head;                 // undefined when tied or absent
  std::vector<Layer> layers;

  // visit(name, tensor) for every tensor that there is, in a fixed order. `self`: Weights, or const
  // Weights.
  template <typename Self, typename F>
  static void Visit(Self& self, F visit) {
    const auto each = [&](const std::string& name, auto& tensor) {
      if (tensor.defined()) visit(name, tensor);
    };
    each("embed", self.embed);
    each("pos", self.pos);
    each("type", self.type);
    each("embedding_norm", self.embedding_norm);
    each("embedding_norm_bias", self.embedding_norm_bias);
    each("final_norm", self.final_norm);
    each("final_norm_bias", self.final_norm_bias);
    for (std::size_t i = 0; i < self.ngrams.size(); ++i) each(model::NgramName(i), self.ngrams[i]);
    each("head", self.head);
    for (std::size_t i = 0; i < self.layers.size(); ++i)
      VisitLayer(self.layers[i], fmt::format("layers.{}.", i), each);
  }

 private:
  template <typename Self, typename F>
  static void VisitLayer(Self& l, const std::string& at, F each) {
    const auto list = std::to_array<std::pair<const char*, decltype(&l.norm1)>>(
        {{"norm1", &l.norm1},
         {"norm1_bias", &l.norm1_bias},
         {"wqkv", &l.wqkv},
         {"bqkv", &l.bqkv},
         {"wo", &l.wo},
         {"bo", &l.bo},
         {"shift", &l.shift},
         {"log_kappa", &l.log_kappa},
         {"centre1", &l.centre1},
         {"norm2", &l.norm2},
         {"norm2_bias", &l.norm2_bias},
         {"w12", &l.w12},
         {"b12", &l.b12},
         {"wdown", &l.wdown},
         {"bdown", &l.bdown},
         {"centre2", &l.centre2},
         {"qk_gain", &l.qk_gain},
         {"query_centre", &l.query_centre},
         {"key_centre", &l.key_centre}});
    for (const auto& [name, tensor] : list) each(at + name, *tensor);
    for (std::size_t i = 0; i < kAdapterSiteNames.size(); ++i) {
      each(at + kAdapterSiteNames[i] + ".lora_a", l.adapters[i].a);
      each(at + kAdapterSiteNames[i] + ".lora_b", l.adapters[i].b);
    }
  }
};

struct ForwardResult {
  torch::Tensor hidden;   // [batch context, d_model], after the final norm
  torch::Tensor penalty;  // scalar: the weighted hinges
};

class Transformer {
 public:
  // Parameters initialised from seed. Such a model has no biases, learnt positions and RMS norms.
  Transformer(const Shape& shape, AttentionForm attention, torch::ScalarType type,
              std::uint64_t seed);
  // Those of elsewhere. frequencies: of the rotation, [dims / 2], halves; undefined: none.
  Transformer(const Shape& shape, AttentionForm attention, Weights weights,
              torch::Tensor frequencies = {});

  // The same tensors under forms of the same sizes.
  Transformer Share(const Shape& shape, AttentionForm attention) const;
  // The same model on a device: what is there is shared, the rest copied, without gradients.
  Transformer On(torch::Device device) const;
  torch::Device device() const { return options_.device(); }
  // Its own copy of every tensor, without gradients, likewise.
  Transformer Clone(const Shape& shape, AttentionForm attention) const;

  // inputs [batch, context] int64, context <= shape.context. With a recorder of everything,
  // attention runs in its plain form so that scores and weights can be seen.
  ForwardResult Forward(const torch::Tensor& inputs, const RangeOptions& range,
                        const Recorder& recorder = {}, Detail detail = Detail::kEverything) const;
  // [vocab, d_model]: logits are its products with Forward's hidden values.
  const torch::Tensor& HeadMatrix() const {
    return weights.head.defined() ? weights.head : weights.embed;
  }
  // Logits [batch, context, vocab] of tokens, for tests and samples.
  torch::Tensor Logits(const torch::Tensor& inputs) const;

  // One forward pass, for callers that go through the blocks by themselves.
  struct Pass {
    explicit Pass(const Transformer& model, const RangeOptions& range = {}, Recorder recorder = {},
                  Detail detail = Detail::kEverything)
        : penalties(range, model.options_), recorder(std::move(recorder)), detail(detail) {}
    Penalties penalties;
    Recorder recorder;
    Detail detail;

    const RangeOptions& range() const { return penalties.range(); }
    bool everything() const { return recorder && detail == Detail::kEverything; }
    void Record(int layer, const char* site, const torch::Tensor& values) const {
      if (recorder) recorder(fmt::format("layer {} / {}", layer, site), values);
    }
  };

  // tokens [batch, context] int64. x: [batch, context, d_model].
  torch::Tensor Embed(const torch::Tensor& tokens) const;
  // What attention adds to the residual x.
  torch::Tensor Attention(int layer, const torch::Tensor& x, Pass& pass) const;
  // One block. attended: what attention has added, if not null.
  torch::Tensor Block(int layer, const torch::Tensor& x, Pass& pass,
                      torch::Tensor* attended = nullptr) const;
  // The norm before the head.
  torch::Tensor Finish(const torch::Tensor& x) const;
  // A layer's scores and values of the residual x.
  HeadScores Scores(int layer, const torch::Tensor& x) const;

  // A site's rows of the matrix that it stands in.
  struct SiteRows {
    AdapterSite site;
    std::int64_t rows;
  };
  // The updates of a matrix of such row blocks, as one of theirs: b block diagonal, times
  // adapter_scale; undefined where no site has one.
  LowRank UpdateOf(int layer, const std::vector<SiteRows>& sites) const;
  // The blocks of wqkv and of w12.
  std::vector<SiteRows> QkvSites() const;
  std::vector<SiteRows> InSites() const;

  AttentionOptions attention_options(int layer) const;
  // x without the constant prefix.
  torch::Tensor BehindPrefix(const torch::Tensor& x, int dim = 1) const {
    return shape_.prefix == 0 ? x : x.narrow(dim, shape_.prefix, x.size(dim) - shape_.prefix);
  }

  struct Parameter {
    std::string name;
    torch::Tensor value;
    bool matrix;          // a block's matrix: Muon's; everything else is Adam's
    int parts;            // equal row blocks that are matrices of their own (q, k, v)
    bool ngrams = false;  // a table of n-grams
  };
  std::vector<Parameter> parameters() const;
  torch::Tensor Get(const std::string& name) const;
  std::int64_t ParameterCount() const;

  std::optional<std::vector<LayerPolynomials>> polynomials;  // one a layer when set
  Precision precision = Precision::kFloat32;                 // of the blocks' products in Forward
  torch::Tensor ngram_keep;  // [batch, context, 1]: what n-grams are multiplied by; undefined: 1
  double adapter_scale = 1;  // of every update
  // >= 1: polynomials read their intervals widened by this ratio, clamped; norms go on outside in
  // proportion to the exact function.
  double clamp = 0;
  Weights weights;

  const Shape& shape() const { return shape_; }
  torch::ScalarType type() const { return torch::typeMetaToScalarType(options_.dtype()); }
  AttentionForm attention(int layer) const {
    return shape_.layer_attention.empty() ? attention_
                                          : shape_.layer_attention[static_cast<std::size_t>(layer)];
  }

 private:
  const Weights::Layer& LayerAt(int index) const {
    return weights.layers[static_cast<std::size_t>(index)];
  }
  const LayerPolynomials* FitsOf(int layer) const {
    return polynomials ? &(*polynomials)[static_cast<std::size_t>(layer)] : nullptr;
  }
  void InitialiseLayer(int index, torch::Generator& random);

  torch::Tensor Positions(const torch::Tensor& tokens) const;
  torch::Tensor Ngrams(const torch::Tensor& tokens) const;

  // Of a block, in transformer_block.cc.
  torch::Tensor Centred(const torch::Tensor& x) const;
  torch::Tensor Norm(const torch::Tensor& x, const torch::Tensor& gain,
                     const torch::Tensor& bias) const;
  template <typename Exact, typename Evaluate>
  torch::Tensor Fitted(const approx::Approximant* fit, const torch::Tensor& x, const Exact& exact,
                       const Evaluate& evaluate) const;
  torch::Tensor NormFactor(int index, bool first, const torch::Tensor& centred, Pass& pass) const;
  torch::Tensor BlockNorm(int index, bool first, const torch::Tensor& x, Pass& pass,
                          torch::Tensor* factor = nullptr) const;
  torch::Tensor Rotate(const torch::Tensor& qkv) const;
  torch::Tensor NormaliseHeads(int index, const torch::Tensor& qkv, Pass& pass) const;
  torch::Tensor Project(int index, const torch::Tensor& normed, Pass& pass) const;
  torch::Tensor Activated(int index, const torch::Tensor& gate) const;
  torch::Tensor Product(int index, const torch::Tensor& hidden, Pass& pass) const;
  torch::Tensor FeedForward(int index, const torch::Tensor& residual, const torch::Tensor& x,
                            Pass& pass) const;
  void RecordRaw(int index, const torch::Tensor& x, const Pass& pass) const;
  void RecordHeads(int index, const torch::Tensor& qkv, const AttentionTrace& trace,
                   const Pass& pass) const;

  Shape shape_;
  AttentionForm attention_;
  torch::TensorOptions options_;
  torch::Tensor frequencies_;
};

}  // namespace polyveil::train
