// A model bundle models/<name>/: model.json, model.safetensors (and, for clients, tokenizer.json).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/sha256.h"

namespace polyveil::model {

// Row-major matrix, y = W x: rows outputs, cols inputs.
struct Matrix {
  int rows = 0;
  int cols = 0;
  std::vector<double> values;

  double at(int row, int col) const { return values[static_cast<size_t>(row) * cols + col]; }
  std::span<const double> row(int r) const {
    return {values.data() + static_cast<size_t>(r) * cols, static_cast<size_t>(cols)};
  }
};

// y = W x. Shape: x cols, result rows.
std::vector<double> Multiply(const Matrix& w, std::span<const double> x);

// Norm gains and 1/sqrt(d_head) are folded in: the blocks hold matrices and nothing else.
struct BundleLayer {
  Matrix wq, wk, wv, wo;  // [d_model, d_model]; rows of head h are h d_head .. (h + 1) d_head - 1
  Matrix w1, w2;          // [d_ff, d_model]; w2 is empty for GELU
  Matrix wdown;           // [d_model, d_ff]
};

// What the server evaluates.
struct BodyWeights {
  std::vector<BundleLayer> layers;
};

// What the client keeps: logits = embed . (final_gamma * x / sqrt(mean x^2 + final_norm_eps)).
struct ClientWeights {
  Matrix embed;  // [vocab_size, d_model], tied with the head
  Matrix pos;    // [context, d_model]
  std::vector<double> final_gamma;
  std::vector<Matrix> ngrams{};  // [ngram_rows[i], d_model]: added for the last 2 + i tokens
};

struct BodyBundle {
  ModelConfig config;
  BodyWeights weights;
};

struct ClientBundle {
  ModelConfig config;
  ClientWeights weights;
};

// Takes the tensors of one part out of the file; refuses missing tensors and wrong shapes by name,
// and a config whose tensors_sha256 (if not empty) differs from the bytes' digest.
Result<BodyBundle> ParseBodyBundle(std::string_view model_json,
                                   std::span<const std::uint8_t> tensors);
Result<ClientBundle> ParseClientBundle(std::string_view model_json,
                                       std::span<const std::uint8_t> tensors);

// The same from a folder. Files above 64 MiB are refused. Errors: kNotFound, kIo and those above.
Result<BodyBundle> LoadBodyBundle(const std::string& directory);
Result<ClientBundle> LoadClientBundle(const std::string& directory);

// Reads a whole file of at most max_bytes. Errors: kNotFound, kIo, kOutOfRange (both sizes).
Result<std::vector<std::uint8_t>> ReadBundleFile(const std::string& path, std::uint64_t max_bytes);

}  // namespace polyveil::model
