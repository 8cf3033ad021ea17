#include "train/bundle_model.h"

#include <cmath>

#include "model/bundle.h"
#include "model/ngram.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

Tensor ToTensor(const std::vector<double>& values, std::vector<std::int64_t> shape) {
  return torch::tensor(values, torch::kFloat64).view(shape);
}
Tensor ToTensor(const model::Matrix& m) { return ToTensor(m.values, {m.rows, m.cols}); }

class Reader {
 public:
  Reader(const model::BodyBundle& body, const model::ClientBundle& client, Transformer& model)
      : body_(body), client_(client), model_(model) {}

  Status Read() {
    torch::NoGradGuard no_grad;
    const model::ClientWeights& weights = client_.weights;
    PV_RETURN_IF_ERROR(Set("embed", ToTensor(weights.embed)));
    PV_RETURN_IF_ERROR(Set("pos", ToTensor(weights.pos)));
    PV_RETURN_IF_ERROR(Set("final_norm", ToTensor(weights.final_gamma, {body_.config.d_model})));
    for (std::size_t i = 0; i < weights.ngrams.size(); ++i)
      PV_RETURN_IF_ERROR(Set(model::NgramName(i), ToTensor(weights.ngrams[i])));
    std::vector<LayerPolynomials> polynomials;
    for (int layer = 0; layer < body_.config.n_layers; ++layer) {
      PV_RETURN_IF_ERROR(ReadLayer(layer));
      polynomials.push_back(Polynomials(body_.config.layers[static_cast<std::size_t>(layer)]));
    }
    model_.polynomials = std::move(polynomials);
    return {};
  }

 private:
  Status Set(const std::string& name, const Tensor& value) {
    Tensor target = model_.Get(name);
    if (target.sizes() != value.sizes())
      return MakeError(ErrorCode::kMismatch, "{}: {} values for {}", name, value.numel(),
                       target.numel());
    target.copy_(value);
    return {};
  }

  Status ReadLayer(int index) {
    const auto i = static_cast<std::size_t>(index);
    const model::BundleLayer& w = body_.weights.layers[i];
    const model::LayerConfig& layer = body_.config.layers[i];
    const Shape& shape = model_.shape();
    const std::string at = fmt::format("layers.{}.", index);
    PV_RETURN_IF_ERROR(Set(at + "wqkv", torch::cat({ToTensor(w.wq) / shape.QueryFold(),
                                                    ToTensor(w.wk), ToTensor(w.wv)})));
    PV_RETURN_IF_ERROR(Set(at + "wo", ToTensor(w.wo)));
    const bool bilinear = shape.ffn == model::FeedForwardKind::kBilinear;
    PV_RETURN_IF_ERROR(
        Set(at + "w12", bilinear ? torch::cat({ToTensor(w.w1), ToTensor(w.w2)}) : ToTensor(w.w1)));
    PV_RETURN_IF_ERROR(Set(at + "wdown", ToTensor(w.wdown)));
    PV_RETURN_IF_ERROR(Set(at + "shift", ToTensor(layer.shift, {shape.n_heads})));
    PV_RETURN_IF_ERROR(Set(at + "log_kappa", ToTensor(layer.kappa, {shape.n_heads}).log()));
    PV_RETURN_IF_ERROR(Set(at + "centre1", Middle(layer.norm1)));
    PV_RETURN_IF_ERROR(Set(at + "centre2", Middle(layer.norm2)));
    if (!layer.attention.qk_norm) return {};
    const model::QkNorm& norm = *layer.attention.qk_norm;
    const double unfold = std::sqrt(static_cast<double>(shape.d_head()));
    PV_RETURN_IF_ERROR(Set(at + "qk_gain", ToTensor(norm.gain, {shape.n_heads}) * unfold));
    PV_RETURN_IF_ERROR(Set(at + "query_centre", Middle(norm.query_root)));
    return Set(at + "key_centre", Middle(norm.key_root));
  }

  static Tensor Middle(const approx::Approximant& p) {
    return torch::full({1}, 0.5 * std::log(p.a * p.b), torch::kFloat64);
  }

  static LayerPolynomials Polynomials(const model::LayerConfig& layer) {
    LayerPolynomials out{layer.norm1, layer.divisor_inverse, layer.norm2, layer.activation};
    if (!layer.attention.qk_norm) return out;
    out.query_root = layer.attention.qk_norm->query_root;
    out.key_root = layer.attention.qk_norm->key_root;
    return out;
  }

  const model::BodyBundle& body_;
  const model::ClientBundle& client_;
  Transformer& model_;
};

Result<Shape> ShapeOf(const model::ModelConfig& config) {
  Shape shape;
  shape.n_layers = config.n_layers;
  shape.d_model = config.d_model;
  shape.n_heads = config.n_heads;
  shape.d_ff = config.d_ff;
  shape.ffn = config.ffn;
  shape.vocab_size = config.vocab_size;
  shape.context = config.context;
  shape.power = config.power;
  shape.attention_eps = config.attention_eps;
  shape.norm_eps = config.norm_eps;
  shape.ngram_rows = config.ngram_rows;
  shape.qk_norm = config.layers.front().attention.qk_norm.has_value();
  shape.length_agnostic = config.layers.front().attention.mean;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    const model::AttentionForm& form = config.layers[static_cast<std::size_t>(layer)].attention;
    if (form.approximates_softmax())
      return MakeError(ErrorCode::kInvalidArgument, "layer {}: attention {} is not the trainer's",
                       layer, model::AttentionKindName(form.kind));
    shape.layer_attention.push_back(form.kind == model::AttentionKind::kPointwise
                                        ? AttentionForm::kPointwise
                                        : AttentionForm::kPowerMean);
    std::vector<int>& powers = shape.layer_powers.emplace_back();
    for (int head = 0; head < config.n_heads; ++head)
      powers.push_back(model::HeadPower(config, layer, head));
  }
  return shape;
}

}  // namespace

Result<LoadedModel> LoadBundleModel(const std::string& folder, torch::ScalarType type) {
  PV_ASSIGN_OR_RETURN(const model::BodyBundle body, model::LoadBodyBundle(folder));
  PV_ASSIGN_OR_RETURN(const model::ClientBundle client, model::LoadClientBundle(folder));
  LoadedModel out;
  out.config.name = "bundle";
  out.residual_bound = body.config.residual_bound;
  PV_ASSIGN_OR_RETURN(out.config.shape, ShapeOf(body.config));
  out.model = std::make_unique<Transformer>(out.config.shape, out.config.attention, type, 1);
  PV_RETURN_IF_ERROR(Reader(body, client, *out.model).Read());
  return out;
}

}  // namespace polyveil::train
