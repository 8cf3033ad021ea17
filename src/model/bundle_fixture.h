// A bundle of a few numbers for tests.
#pragma once

#include <random>

#include "model/bundle.h"

namespace polyveil::model {

inline constexpr int kWidth = 4, kHeads = 2, kLayers = 2, kHidden = 3, kContext = 6;

inline Matrix RandomMatrix(int rows, int cols, std::mt19937_64& random, double size = 1.2) {
  Matrix m{rows, cols, {}};
  for (int i = 0; i < rows * cols; ++i)
    m.values.push_back((static_cast<double>(random() >> 11) * 0x1p-53 - 0.5) * size);
  return m;
}

inline BodyBundle SmallBundle(FeedForwardKind ffn = FeedForwardKind::kBilinear) {
  std::mt19937_64 random(11);
  BodyBundle bundle;
  ModelConfig& c = bundle.config;
  c.n_layers = kLayers;
  c.d_model = kWidth;
  c.n_heads = kHeads;
  c.d_head = kWidth / kHeads;
  c.d_ff = kHidden;
  c.ffn = ffn;
  c.vocab_size = 300;
  c.context = kContext;
  c.residual_bound = 10;
  for (int i = 0; i < kLayers; ++i) {
    LayerConfig layer;
    layer.norm1 = {0.1, 12, {1.5, -0.7, 0.2}};
    layer.divisor_inverse = {0.1, 8, {1.2, -0.8, 0.4, -0.1}};
    layer.norm2 = {0.1, 12, {1.1, -0.5, 0.1}};
    if (ffn == FeedForwardKind::kGelu) layer.activation = Chebyshev{-6, 6, {0.3, 0.2, 0.1}};
    layer.kappa = {16, 10};
    layer.shift = {2, 1.5};
    c.layers.push_back(layer);
    BundleLayer w;
    for (Matrix* m : {&w.wq, &w.wk, &w.wv, &w.wo}) *m = RandomMatrix(kWidth, kWidth, random, 0.6);
    w.w1 = RandomMatrix(kHidden, kWidth, random);
    if (ffn == FeedForwardKind::kBilinear) w.w2 = RandomMatrix(kHidden, kWidth, random);
    w.wdown = RandomMatrix(kWidth, kHidden, random);
    bundle.weights.layers.push_back(w);
  }
  return bundle;
}

}  // namespace polyveil::model
