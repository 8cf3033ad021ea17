// A tiny random model for tests: fits the smallest rings, its values stay inside its polynomials'
// intervals.
#pragma once

#include <cmath>
#include <random>

#include "approx/chebyshev.h"
#include "model/decoder.h"

namespace polyveil::testing {

struct RandomModelShape {
  int n_layers = 2, d_model = 16, n_heads = 2, d_ff = 32, context = 8;
  int norm_degree = 7, divisor_degree = 7;
  double norm_end =
      4;  // of the norms' intervals, which begin at a twentieth; near 0.1 the model breaks
};

inline model::Matrix RandomMatrix(int rows, int cols, double sigma, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, sigma);
  model::Matrix m{rows, cols, std::vector<double>(static_cast<size_t>(rows) * cols)};
  for (double& v : m.values) v = normal(random);
  return m;
}

inline model::LayerConfig RandomLayerConfig(const RandomModelShape& shape) {
  model::LayerConfig layer;
  const double lo = 0.05 * shape.norm_end, hi = shape.norm_end;
  layer.norm1 =
      approx::Interpolate([](double v) { return 1 / std::sqrt(v); }, lo, hi, shape.norm_degree);
  layer.norm2 = approx::Interpolate([](double v) { return 1 / v; }, lo, hi, shape.norm_degree);
  layer.divisor_inverse =
      approx::Interpolate([](double y) { return 1 / (1e-3 + y); }, 0.1, 6, shape.divisor_degree);
  for (int h = 0; h < shape.n_heads; ++h) {
    layer.shift.push_back(2 + 0.25 * h);
    layer.kappa.push_back(std::pow(layer.shift.back(), 4));
  }
  layer.bounds.hidden = 2;
  return layer;
}

inline model::BodyBundle RandomModel(const RandomModelShape& shape, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  model::BodyBundle bundle;
  model::ModelConfig& c = bundle.config;
  c.n_layers = shape.n_layers;
  c.d_model = shape.d_model;
  c.n_heads = shape.n_heads;
  c.d_head = shape.d_model / shape.n_heads;
  c.d_ff = shape.d_ff;
  c.context = shape.context;
  c.vocab_size = 64;
  c.residual_bound = 6;
  const double d = shape.d_model, sigma = 0.5 / std::sqrt(d);
  for (int i = 0; i < shape.n_layers; ++i) {
    c.layers.push_back(RandomLayerConfig(shape));
    model::BundleLayer w;
    w.wq = RandomMatrix(shape.d_model, shape.d_model, sigma / std::sqrt(c.d_head), random);
    w.wk = RandomMatrix(shape.d_model, shape.d_model, sigma, random);
    w.wv = RandomMatrix(shape.d_model, shape.d_model, sigma, random);
    w.wo = RandomMatrix(shape.d_model, shape.d_model, sigma, random);
    w.w1 = RandomMatrix(shape.d_ff, shape.d_model, sigma, random);
    w.w2 = RandomMatrix(shape.d_ff, shape.d_model, sigma, random);
    w.wdown = RandomMatrix(shape.d_model, shape.d_ff, 0.3 / std::sqrt(shape.d_ff), random);
    bundle.weights.layers.push_back(std::move(w));
  }
  return bundle;
}

inline std::shared_ptr<const model::Decoder> Shared(const model::BodyBundle& bundle) {
  return std::make_shared<const model::Decoder>(model::DecoderOfBundle(bundle, "random"));
}
inline std::shared_ptr<const model::Decoder> RandomDecoder(const RandomModelShape& shape,
                                                           std::uint64_t seed) {
  return Shared(RandomModel(shape, seed));
}

// An embedding with mean square near 1.
inline std::vector<double> RandomEmbedding(int d_model, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform(-1.7, 1.7);
  std::vector<double> x(d_model);
  for (double& v : x) v = uniform(random);
  return x;
}

}  // namespace polyveil::testing
