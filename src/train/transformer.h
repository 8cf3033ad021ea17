// The trainable model: parameters, forward pass, range penalties, and a look at every intermediate.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/attention.h"
#include "train/cross_entropy.h"
#include "train/train_config.h"

namespace polyveil::train {

// The polynomials of one layer, in the place of the exact functions.
struct LayerPolynomials {
  approx::Approximant norm1, divisor_inverse, norm2;
  std::optional<approx::Approximant> activation{};              // GELU only
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

// Called with intermediates by site, e.g. ("layer 2 / attention / variance", tensor). Names as in
// model/block_reference.h.
using Recorder = std::function<void(const std::string& site, const torch::Tensor& values)>;

// What a recorder is told. kIntervals: the polynomials' inputs and the residuals; attention keeps
// its fused form and everything its gradients.
enum class Detail { kEverything, kIntervals };

struct ForwardResult {
  torch::Tensor hidden;   // [batch context, d_model], after the final norm
  torch::Tensor penalty;  // scalar: the weighted hinges
};

class Transformer {
 public:
  // Parameters initialised from seed; every tensor is named.
  Transformer(const Shape& shape, AttentionForm attention, torch::ScalarType type,
              std::uint64_t seed);

  // inputs [batch, context] int64, context <= shape.context. With a recorder of everything,
  // attention runs in its plain form so that scores and weights can be seen.
  ForwardResult Forward(const torch::Tensor& inputs, const RangeOptions& range,
                        const Recorder& recorder = {}, Detail detail = Detail::kEverything) const;

  // Logits [batch, context, vocab], for tests and samples.
  torch::Tensor Logits(const torch::Tensor& inputs) const;

  struct Parameter {
    std::string name;
    torch::Tensor value;
    bool matrix;          // a block's matrix: Muon's; everything else is Adam's
    int parts;            // equal row blocks that are matrices of their own (q, k, v)
    bool ngrams = false;  // a table of n-grams
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  torch::Tensor Get(const std::string& name) const;
  std::int64_t ParameterCount() const;

  std::optional<std::vector<LayerPolynomials>> polynomials;  // one a layer when set
  Precision precision = Precision::kFloat32;                 // of the blocks' products in Forward
  torch::Tensor ngram_keep;  // [batch, context, 1]: what n-grams are multiplied by; undefined: 1
  double clamp = 0;  // >= 1: polynomials read their intervals widened by this ratio, clamped

  const Shape& shape() const { return shape_; }
  torch::ScalarType type() const { return torch::typeMetaToScalarType(options_.dtype()); }
  AttentionForm attention(int layer) const {
    return shape_.layer_attention.empty() ? attention_
                                          : shape_.layer_attention[static_cast<std::size_t>(layer)];
  }

 private:
  struct Layer {
    torch::Tensor norm1, wqkv, wo, shift, log_kappa, norm2, w12, wdown;
    torch::Tensor centre1, centre2;  // of the log variances, learnt by the hinge alone
    torch::Tensor qk_gain, query_centre, key_centre;  // QK-norm only
  };
  struct Pass;  // one forward pass: options, recorder, penalty so far

  torch::Tensor Add(const std::string& name, torch::Tensor value, bool matrix = false,
                    int parts = 1);
  void AddLayer(int index, torch::Generator& random);
  torch::Tensor Embed(const torch::Tensor& inputs) const;
  torch::Tensor NormaliseHeads(int index, const torch::Tensor& qkv, Pass& pass) const;
  torch::Tensor Attention(int index, const torch::Tensor& x, Pass& pass) const;
  torch::Tensor FeedForward(int index, const torch::Tensor& x, Pass& pass) const;

  Shape shape_;
  AttentionForm attention_;
  torch::TensorOptions options_;
  std::vector<Parameter> parameters_;
  torch::Tensor embed_, pos_, final_norm_;
  std::vector<torch::Tensor> ngrams_;  // [rows, d_model], by n from 2 on
  std::vector<Layer> layers_;
};

}  // namespace polyveil::train
