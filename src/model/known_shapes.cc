#include "model/known_shapes.h"

#include <cmath>

namespace polyveil::model {
namespace {

std::vector<double> Frequencies(int dims, double theta) {
  std::vector<double> frequencies;
  for (int i = 0; i < dims / 2; ++i) frequencies.push_back(std::pow(theta, -2.0 * i / dims));
  return frequencies;
}

// Touvron et al. 2023, arXiv 2302.13971, with grouped queries.
ModelShape Llama(std::string name, int layers, int d_model, int heads, int kv_heads, int d_head,
                 int d_ff, int vocab, double theta) {
  ModelShape shape{std::move(name), {}, layers, vocab};
  shape.block.d_model = d_model;
  shape.block.n_heads = heads;
  shape.block.n_kv_heads = kv_heads;
  shape.block.d_head = d_head;
  shape.block.d_ff = d_ff;
  shape.block.gated = true;
  shape.block.rotary = Frequencies(d_head, theta);
  return shape;
}

// Biderman et al. 2023, arXiv 2304.01373.
ModelShape Pythia(std::string name, int layers, int d_model, int heads) {
  ModelShape shape{std::move(name), {}, layers, 50304};
  shape.tied_head = false;
  shape.block.d_model = d_model;
  shape.block.n_heads = shape.block.n_kv_heads = heads;
  shape.block.d_head = d_model / heads;
  shape.block.d_ff = 4 * d_model;
  shape.block.parallel = shape.block.centred = shape.block.biases = true;
  shape.block.activation = BlockActivation::kGelu;
  shape.block.rotary = Frequencies(shape.block.d_head / 4, 10000);
  return shape;
}

// Devlin et al. 2019, arXiv 1810.04805.
ModelShape Bert(std::string name, int layers, int d_model, int heads, int vocab) {
  ModelShape shape{std::move(name), {}, layers, vocab};
  shape.block.d_model = d_model;
  shape.block.n_heads = shape.block.n_kv_heads = heads;
  shape.block.d_head = d_model / heads;
  shape.block.d_ff = 4 * d_model;
  shape.block.causal = false;
  shape.block.post_norm = shape.block.centred = shape.block.biases = true;
  shape.block.activation = BlockActivation::kGelu;
  return shape;
}

std::vector<ModelShape> KnownShapes() {
  ModelShape llama3 = Llama("llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, 500000);
  llama3.tied_head = false;
  return {Llama("smollm2-135m", 30, 576, 9, 3, 64, 1536, 49152, 100000),
          Pythia("pythia-70m", 6, 512, 8),
          Pythia("pythia-1.4b", 24, 2048, 16),
          llama3,
          Bert("minilm-l6", 6, 384, 12, 30522),
          Bert("bert-base", 12, 768, 12, 30522),
          Bert("roberta-base", 12, 768, 12, 50265)};
}

}  // namespace

std::int64_t ModelShape::parameters() const {
  return n_layers * block.parameters() +
         static_cast<std::int64_t>(tied_head ? 1 : 2) * vocab_size * block.d_model;
}

std::vector<std::string> ModelShapeNames() {
  std::vector<std::string> names;
  for (const ModelShape& shape : KnownShapes()) names.push_back(shape.name);
  return names;
}

Result<ModelShape> FindModelShape(const std::string& name) {
  std::string known;
  for (ModelShape& shape : KnownShapes()) {
    if (shape.name == name) return std::move(shape);
    known += (known.empty() ? "" : ", ") + shape.name;
  }
  return MakeError(ErrorCode::kNotFound, "shape \"{}\" is unknown; known: {}", name, known);
}

LayerConfig NominalForms(const BlockShape& shape, int norm_degree, int divisor_degree,
                         int activation_degree) {
  LayerConfig forms;
  const auto root = [](double v) { return 1 / std::sqrt(v); };
  forms.norm1 = forms.norm2 = approx::Interpolate(root, 0.25, 4, norm_degree);
  forms.divisor_inverse = approx::Interpolate(
      [&](double y) { return 1 / (shape.attention_eps + y); }, 0.2, 5, divisor_degree);
  forms.activation = approx::Interpolate([&](double x) { return Activate(shape.activation, x); },
                                         -6, 6, activation_degree);
  forms.kappa.assign(static_cast<std::size_t>(shape.n_heads), 1);
  forms.shift.assign(static_cast<std::size_t>(shape.n_heads), 2);
  return forms;
}

}  // namespace polyveil::model
