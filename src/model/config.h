// What a model is, apart from its tensors: shape, polynomials on their intervals, observed bounds.
// The file form is models/<name>/model.json; docs/formats/model-bundle.md describes every field.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "approx/approximant.h"
#include "base/result.h"
#include "model/attention_form.h"
#include "model/certificate.h"

namespace polyveil::model {

using approx::Approximant;
using approx::Chebyshev;

enum class FeedForwardKind {
  kBilinear,  // W_down[(W1 x) * (W2 x)], scaled by r2(v) ~ 1/(v + eps): degree 2, no activation
  kGelu,      // W_down[activation(r2(v) W1 x)], r2(v) ~ 1/sqrt(v + eps)
};

// Largest absolute values seen in calibration, before any margin. Names as in reference.h.
struct LayerBounds {
  double query = 0;      // |r1 Wq x|, 1/sqrt(d_head) folded into wq
  double key = 0;        // |r1 Wk x|
  double value = 0;      // |r1 Wv x|
  double query_raw = 0;  // |Wq x| before r1, and so on: what a planner sees when it merges r1 late
  double key_raw = 0;
  double value_raw = 0;
  double score = 0;     // |q.k + shift|
  double power = 0;     // (q.k + shift)^4 / (kappa n), the summand of the divisor
  double weight = 0;    // attention weight a_k
  double head_out = 0;  // |sum_k a_k v_k|
  double attn_out = 0;  // |Wo head_out|, what is added to the residual
  double hidden = 0;    // max(|W1 x|, |W2 x|) raw (for GELU: |r2 W1 x|)
  double product = 0;   // |(W1 x) * (W2 x)| raw (for GELU: |activation|)
  double ffn_raw = 0;   // |W_down product| before r2
  double ffn_out = 0;   // what is added to the residual
  double residual_in = 0;
  double residual_mid = 0;  // after attention's addition
  double residual_out = 0;
  double inverse_root = 0;  // |norm1(v)|
  double divisor_inverse = 0;
  double ffn_scale = 0;  // |norm2(v)|
  // By channel c, between attention and feed-forward and behind both: |x_c| <= residual_mid or
  // residual_out times 2^-exponent. Empty: one bound for all channels.
  std::vector<int> mid_exponents, out_exponents;
};
inline constexpr int kMaxChannelExponent = 8;

// Observed (smallest, largest) inputs of a layer's polynomials in calibration, before the margin.
struct ObservedInterval {
  double lo = 0;
  double hi = 0;
};

inline constexpr int kMaxDegree = 127;  // of a layer's polynomials

struct LayerConfig {
  Approximant norm1;            // v -> ~ 1/sqrt(v + norm_eps), v = mean(x^2)
  Approximant divisor_inverse;  // y -> ~ 1/(attention_eps + y)
  Approximant norm2;            // v -> ~ 1/(v + norm_eps) (bilinear) or 1/sqrt(v + norm_eps) (GELU)
  std::optional<Approximant> activation;  // GELU only
  std::vector<double> kappa;              // per head: centre of the divisor
  std::vector<double> shift;              // per head: c_h
  LayerBounds bounds;
  ObservedInterval norm1_seen, divisor_seen, norm2_seen;
  AttentionForm attention;
};

struct Calibration {
  std::uint64_t tokens = 0;
  double margin = 1;
};

struct ModelConfig {
  int n_layers = 0;
  int d_model = 0;
  int n_heads = 0;
  int d_head = 0;
  int d_ff = 0;
  FeedForwardKind ffn = FeedForwardKind::kBilinear;
  int vocab_size = 0;
  std::vector<int> ngram_rows;  // of the embedding's tables for 2, 3, .. tokens (model/ngram.h)
  int context = 0;
  int power = 4;
  double attention_eps = 1e-3;
  double norm_eps = 1e-5;
  double final_norm_eps = 1e-5;
  double residual_bound =
      0;  // max |x_i| entering or leaving any block, embedding included, with margin
  std::vector<LayerConfig> layers;
  Calibration calibration;
  std::optional<Certificate> certificate;
  std::string tensors_sha256;  // lower-case hex of model.safetensors
};

// Parses and checks model.json. Every shape must agree (d_model = n_heads d_head, one kappa and
// shift a head, power even and 2..12, sizes bounded), every number be finite. Errors: kCorrupt for
// text that is no JSON or lacks a field (named), kMismatch / kOutOfRange for values (both values
// named).
Result<ModelConfig> ParseModelConfig(std::string_view json);

std::string FormatModelConfig(const ModelConfig& config);

// The checks of ParseModelConfig on a config from anywhere.
Status ValidateModelConfig(const ModelConfig& config);

// The power p of one head's scores: the layer's own choice or else the model's.
int HeadPower(const ModelConfig& config, int layer, int head);

const char* FeedForwardName(FeedForwardKind kind);

}  // namespace polyveil::model
