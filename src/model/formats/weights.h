// The tensors of a checkpoint in their places.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "model/formats/tensor_view.h"

namespace polyveil::model {

struct Architecture;

struct NormWeights {
  std::vector<float> gain, bias;  // bias is empty for RMSNorm
};

struct Linear {
  TensorView weight;        // [out, in]; [in, out] when transposed
  bool transposed = false;  // GPT-2's files on Hugging Face
  std::vector<float> bias;  // [out], or empty
  int in = 0, out = 0;

  bool empty() const { return out == 0; }
};

struct LayerWeights {
  NormWeights attention_norm, ffn_norm;
  std::vector<Linear>
      qkv;  // one that writes all columns, or query, key and value beside each other
  Linear out;
  Linear gate;  // empty unless gated
  Linear up, down;
};

struct Weights {
  TensorView token_embedding;              // [vocabulary, width]
  TensorView position_embedding;           // [context + offset, width], or empty
  TensorView type_embedding;               // [types, width], or empty
  NormWeights embedding_norm, final_norm;  // empty where the architecture has none
  std::vector<LayerWeights> layers;
  Linear head;                        // logits; the tied one shares the embedding
  Linear pooler, classifier;          // of a classifier
  std::vector<float> rotary_factors;  // divisors of frequencies (GGUF), or empty
};

// Names of the tensors, "{}" for the layer's number; without ".weight" and ".bias". An empty name:
// the architecture has no such tensor.
struct WeightNames {
  std::vector<std::string> prefixes;  // before all but the heads: one of them, or none
  std::string token_embedding, position_embedding, type_embedding, embedding_norm, final_norm, head;
  std::string attention_norm, ffn_norm;
  std::vector<std::string> qkv;
  std::string out, gate, up, down;
  std::string pooler, classifier;
  bool transposed = false;
};

WeightNames HuggingFaceNames(const Architecture& architecture);
WeightNames GgufNames(const Architecture& architecture);

struct BoundWeights {
  Weights weights;
  bool tied_head = false;  // the head is the embedding: the file's word, not the configuration's
  std::set<std::string> unused;  // tensors that no part of the model asked for
};

// Takes every tensor that the architecture needs; biases and norms are decoded, matrices stay in
// the file. What is left over must be a known buffer or another task's head. Errors: kNotFound
// (name), kMismatch (name, both shapes; a weight without a place), kCorrupt (an integer type, a
// weight under two names).
Result<BoundWeights> BindWeights(const Architecture& architecture, const WeightNames& names,
                                 const TensorViews& tensors);

}  // namespace polyveil::model
