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
  approx::Chebyshev norm1, divisor_inverse, norm2;
  std::optional<approx::Chebyshev> activation;
};

// Called with intermediates by site, e.g. ("layer 2 / attention / variance", tensor). Names as in
// model/reference.h.
using Recorder = std::function<void(const std::string& site, const torch::Tensor& values)>;

struct ForwardResult {
  torch::Tensor hidden;   // [batch context, d_model], after the final norm
  torch::Tensor penalty;  // scalar: the weighted hinges
};

class Transformer {
 public:
  // Parameters initialised from seed; every tensor is named.
  Transformer(const Shape& shape, AttentionForm attention, torch::ScalarType type,
              std::uint64_t seed);

  // inputs [batch, context] int64, context <= shape.context. With a recorder, attention runs in its
  // plain form so that scores and weights can be seen.
  ForwardResult Forward(const torch::Tensor& inputs, const RangeOptions& range,
                        const Recorder& recorder = {}) const;

  // Logits [batch, context, vocab], for tests and samples.
  torch::Tensor Logits(const torch::Tensor& inputs) const;

  struct Parameter {
    std::string name;
    torch::Tensor value;
    bool matrix;  // a block's matrix: Muon's; everything else is Adam's
    int parts;    // equal row blocks that are matrices of their own (q, k, v)
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  torch::Tensor Get(const std::string& name) const;
  std::int64_t ParameterCount() const;

  std::optional<std::vector<LayerPolynomials>> polynomials;  // one a layer when set

  const Shape& shape() const { return shape_; }
  AttentionForm attention() const { return attention_; }

 private:
  struct Layer {
    torch::Tensor norm1, wqkv, wo, shift, log_kappa, norm2, w12, wdown;
    torch::Tensor centre1, centre2;  // of the log variances, learnt by the hinge alone
  };
  struct Pass;  // one forward pass: options, recorder, penalty so far

  torch::Tensor Add(const std::string& name, torch::Tensor value, bool matrix = false,
                    int parts = 1);
  void AddLayer(int index, torch::Generator& random);
  torch::Tensor Attention(int index, const torch::Tensor& x, Pass& pass) const;
  torch::Tensor FeedForward(int index, const torch::Tensor& x, Pass& pass) const;

  Shape shape_;
  AttentionForm attention_;
  torch::TensorOptions options_;
  std::vector<Parameter> parameters_;
  torch::Tensor embed_, pos_, final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace polyveil::train
