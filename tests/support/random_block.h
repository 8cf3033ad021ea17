// Random blocks of every architecture for tests, with polynomials that fit what they see.
#pragma once

#include <random>

#include "model/block_calibration.h"
#include "support/random_model.h"

namespace polyveil::testing {

inline std::vector<std::vector<double>> RandomText(int d_model, int tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<double>> text;
  for (int i = 0; i < tokens; ++i) text.push_back(RandomEmbedding(d_model, random));
  return text;
}

inline constexpr model::BlockFit kSmallDegrees = {
    .margin = 2, .norm_degree = 7, .divisor_degree = 7, .activation_degree = 7};

// prefix: tokens whose keys and values are constants. attention: its powers and its other
// functions.
inline model::Block RandomBlock(const model::BlockShape& shape, std::uint64_t seed, int prefix = 0,
                                const model::BlockFit& calibration = kSmallDegrees,
                                const model::AttentionForm& attention = {}) {
  model::Block block;
  block.shape = shape;
  block.weights = std::make_shared<const model::RandomWeights>(shape, seed);
  block.forms.shift.assign(shape.n_heads, 1);
  block.forms.kappa.assign(shape.n_heads, 1);
  block.forms.attention = attention;
  model::BlockReference constant(block, model::Evaluation::kExact);
  for (const auto& token : RandomText(shape.d_model, prefix, seed + 50))
    constant.Step(token).value();
  block.prefix_keys = constant.keys();
  block.prefix_values = constant.values();
  std::vector<std::vector<std::vector<double>>> texts;
  for (int i = 0; i < 4; ++i) texts.push_back(RandomText(shape.d_model, 8, seed + 100 + i));
  block.forms = model::CalibrateBlock(block, texts, calibration).value();
  return block;
}

// What the blocks make of a text, one after another.
inline std::vector<std::vector<double>> Expected(const std::vector<model::Block>& blocks,
                                                 const std::vector<std::vector<double>>& text) {
  std::vector<std::vector<double>> values = text;
  for (const model::Block& block : blocks) {
    model::BlockReference reference(block, model::Evaluation::kPolynomial);
    values = reference.Read(values).value();
  }
  return values;
}

// Llama's form: grouped queries, rotary, gated, no biases.
inline model::BlockShape LlamaShape() {
  return {.d_model = 12,
          .n_heads = 3,
          .n_kv_heads = 1,
          .d_head = 4,
          .d_ff = 20,
          .gated = true,
          .rotary = {1.0, 0.1}};
}

// The same with biases everywhere.
inline model::BlockShape BiasedLlamaShape() {
  model::BlockShape shape = LlamaShape();
  shape.biases = true;
  return shape;
}

// The embedded model's feed-forward in a block whose rows and heads are padded.
inline model::BlockShape BilinearShape() {
  model::BlockShape shape = LlamaShape();
  shape.activation = model::BlockActivation::kIdentity;
  return shape;
}

// GPT-NeoX's: LayerNorm, parallel, part of a head turned, biases, GELU.
inline model::BlockShape NeoxShape() {
  return {.d_model = 16,
          .n_heads = 2,
          .n_kv_heads = 2,
          .d_head = 8,
          .d_ff = 64,
          .parallel = true,
          .centred = true,
          .biases = true,
          .activation = model::BlockActivation::kGelu,
          .rotary = {0.7}};
}

// Narrow rows: matrices of many terms, packed in pairs where they are real.
inline model::BlockShape WideShape() {
  model::BlockShape shape = NeoxShape();
  shape.d_model = 60;
  shape.d_head = 32;
  shape.d_ff = 250;
  return shape;
}

// BERT's: post-norm, every token sees every one; fewer blocks than a head has elements.
inline model::BlockShape EncoderShape() {
  return {.d_model = 60,
          .n_heads = 2,
          .n_kv_heads = 2,
          .d_head = 32,
          .d_ff = 100,
          .causal = false,
          .post_norm = true,
          .centred = true,
          .biases = true,
          .activation = model::BlockActivation::kGelu,
          .rotary = {}};
}

// GPT-2's: sequential, biases, no rotary; wide rows, so that a term holds every column.
inline model::BlockShape Gpt2Shape() {
  return {.d_model = 8,
          .n_heads = 2,
          .n_kv_heads = 2,
          .d_head = 4,
          .d_ff = 16,
          .centred = true,
          .biases = true,
          .activation = model::BlockActivation::kGeluTanh,
          .power = 6,
          .rotary = {}};
}

}  // namespace polyveil::testing
