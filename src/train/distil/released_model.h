// A released architecture as a trainable LibTorch model: softmax as released, Power-Softmax, or
// polynomials in every place, with the weights of model/formats' checkpoints.
#pragma once

#include <torch/torch.h>

#include <optional>
#include <string>
#include <vector>

#include "model/formats/checkpoint.h"
#include "train/attention.h"
#include "train/hinges.h"
#include "train/transformer.h"

namespace polyveil::train {

// What stands in the place of softmax and of the exact functions.
struct DistilForms {
  AttentionForm attention = AttentionForm::kSoftmax;  // or kPowerMean
  int power = 4;
  double eps = 1e-3;
  int prefix = 0;  // first positions, exact in every stage and outside of every range
};

class ReleasedModel {
 public:
  // All weights widened to float32 (or float64). Rotary pairs become halves, query, key and value
  // columns blocks, whatever the file has. Errors: kMismatch for a classifier and for frequencies
  // that only a GGUF file states.
  static Result<ReleasedModel> Load(const model::Checkpoint& checkpoint,
                                    torch::ScalarType type = torch::kFloat32);

  // Its own copy of every tensor.
  ReleasedModel Clone() const;

  struct Pass {
    explicit Pass(const ReleasedModel& model, const RangeOptions& range = {},
                  Recorder recorder = {})
        : penalties(range, model.options_), recorder(std::move(recorder)) {}
    Penalties penalties;
    Recorder recorder;  // values behind the prefix
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
  // All of it: [batch, context, d_model].
  torch::Tensor Hidden(const torch::Tensor& tokens, Pass& pass) const;
  torch::Tensor Hidden(const torch::Tensor& tokens) const;
  torch::Tensor Logits(const torch::Tensor& hidden) const;

  // Scores q k^T / sqrt(d_head) and values of the normed input, [batch, n_heads, context, *].
  struct Heads {
    torch::Tensor scores, values;
  };
  Heads ScoreHeads(int layer, const torch::Tensor& x) const;

  DistilForms forms;
  std::optional<std::vector<LayerPolynomials>> polynomials;  // one a layer when set
  double clamp = 0;  // >= 1: polynomials read their intervals widened by this ratio, clamped

  struct Layer {
    torch::Tensor norm1, norm1_bias, qkv, qkv_bias, out, out_bias;
    torch::Tensor norm2, norm2_bias, in, in_bias, down, down_bias;  // in: gate above up where gated
    torch::Tensor shift, log_kappa;                                 // [n_heads]
    torch::Tensor centre1, centre2;  // of the log variances, learnt by the hinge alone
  };
  // visit(name, tensor) for every tensor that exists, in a fixed order.
  template <typename F>
  void Visit(F visit) const {
    const auto each = [&](const std::string& name, const torch::Tensor& tensor) {
      if (tensor.defined()) visit(name, tensor);
    };
    each("token_embedding", token_embedding);
    each("position_embedding", position_embedding);
    each("type_embedding", type_embedding);
    each("embedding_norm", embedding_norm);
    each("embedding_norm_bias", embedding_norm_bias);
    each("final_norm", final_norm);
    each("final_norm_bias", final_norm_bias);
    each("head", head);
    for (std::size_t i = 0; i < layers.size(); ++i) VisitLayer(layers[i], i, each);
  }

  const model::Architecture& architecture() const { return architecture_; }
  AttentionOptions attention_options(int layer) const;

  torch::Tensor token_embedding, position_embedding, type_embedding;
  torch::Tensor embedding_norm, embedding_norm_bias, final_norm, final_norm_bias;
  torch::Tensor head;  // undefined when tied or absent
  std::vector<Layer> layers;

 private:
  ReleasedModel(const model::Architecture& architecture, torch::ScalarType type);

  template <typename F>
  static void VisitLayer(const Layer& l, std::size_t index, F each) {
    const std::string at = fmt::format("layers.{}.", index);
    const std::pair<const char*, const torch::Tensor*> tensors[] = {
        {"norm1", &l.norm1},     {"norm1_bias", &l.norm1_bias},
        {"qkv", &l.qkv},         {"qkv_bias", &l.qkv_bias},
        {"out", &l.out},         {"out_bias", &l.out_bias},
        {"norm2", &l.norm2},     {"norm2_bias", &l.norm2_bias},
        {"in", &l.in},           {"in_bias", &l.in_bias},
        {"down", &l.down},       {"down_bias", &l.down_bias},
        {"shift", &l.shift},     {"log_kappa", &l.log_kappa},
        {"centre1", &l.centre1}, {"centre2", &l.centre2}};
    for (const auto& [name, tensor] : tensors) each(at + name, *tensor);
  }

  struct NormSite;  // which norm of which layer
  torch::Tensor Normalize(const torch::Tensor& x, const torch::Tensor& gain,
                          const torch::Tensor& bias) const;
  torch::Tensor LayerNormalize(int layer, bool first, const torch::Tensor& x, Pass& pass) const;
  torch::Tensor Project(int layer, const torch::Tensor& x) const;  // rotated queries, keys, values
  torch::Tensor Rotate(const torch::Tensor& heads) const;
  torch::Tensor Mix(int layer, const torch::Tensor& normed, Pass& pass) const;
  torch::Tensor FeedForward(int layer, const torch::Tensor& normed, Pass& pass) const;
  torch::Tensor Activate(const torch::Tensor& x) const;
  torch::Tensor PositionEmbeddings(const torch::Tensor& tokens) const;
  void RecordHeads(int layer, const torch::Tensor& normed, const torch::Tensor& qkv,
                   const Pass& pass) const;
  void Record(const Pass& pass, int layer, const char* site, const torch::Tensor& values) const;
  torch::Tensor BehindPrefix(const torch::Tensor& x, int dim = 1) const;

  model::Architecture architecture_;
  torch::TensorOptions options_;
  torch::Tensor frequencies_;  // of the rotation, [dims / 2]
};

}  // namespace polyveil::train
