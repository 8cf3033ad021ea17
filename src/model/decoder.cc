#include "model/decoder.h"

#include <utility>

namespace polyveil::model {
namespace {

BlockShape ShapeOf(const ModelConfig& config) {
  BlockShape shape;
  shape.d_model = config.d_model;
  shape.n_heads = shape.n_kv_heads = config.n_heads;
  shape.d_head = config.d_head;
  shape.d_ff = config.d_ff;
  shape.gated = config.ffn == FeedForwardKind::kBilinear;
  shape.activation = shape.gated ? BlockActivation::kIdentity : BlockActivation::kGelu;
  shape.norm_eps = config.norm_eps;
  shape.power = config.power;
  shape.attention_eps = config.attention_eps;
  return shape;
}

BlockWeights WeightsOf(BundleLayer w, bool gated) {
  BlockWeights out;
  out.wq = std::move(w.wq);
  out.wk = std::move(w.wk);
  out.wv = std::move(w.wv);
  out.wo = std::move(w.wo);
  if (gated) out.gate = std::move(w.w1);
  out.up = std::move(gated ? w.w2 : w.w1);
  out.down = std::move(w.wdown);
  return out;
}

}  // namespace

Decoder DecoderOfBundle(BodyBundle bundle, std::string name) {
  ModelConfig& config = bundle.config;
  Decoder decoder{std::move(name),
                  config.tensors_sha256,
                  {},
                  config.context,
                  config.calibration.margin,
                  config.residual_bound,
                  config.certificate};
  const BlockShape shape = ShapeOf(config);
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    Block block{shape, std::move(config.layers[i]), {}, {}, {}};
    block.weights = std::make_shared<const KeptWeights>(
        WeightsOf(std::move(bundle.weights.layers[i]), shape.gated));
    decoder.blocks.push_back(std::move(block));
  }
  return decoder;
}

}  // namespace polyveil::model
