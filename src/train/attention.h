// Causal attention as one differentiable operation: softmax, or shifted Power-Softmax.
#pragma once

#include <torch/torch.h>

#include <optional>

#include "approx/chebyshev.h"
#include "train/train_config.h"

namespace polyveil::train {

struct AttentionOptions {
  AttentionForm form = AttentionForm::kPowerMean;
  int n_heads = 4;
  int power = 4;
  double eps = 1e-3;
  std::optional<approx::Chebyshev> inverse;  // in the place of y -> 1 / (eps + y)
};

struct AttentionResult {
  torch::Tensor output;   // [batch, context, d_model], heads side by side
  torch::Tensor divisor;  // [batch, heads, context], normalised by kappa; undefined for softmax
};

// qkv [batch, context, 3 d_model] (queries, keys, values), shift and log_kappa [heads].
// Scores are q.k / sqrt(d_head) + shift; row i sees keys 0..i, n = i + 1.
// Keeps O(batch heads context^2) values nowhere: scores are recomputed in the backward pass.
AttentionResult FusedAttention(const torch::Tensor& qkv, const torch::Tensor& shift,
                               const torch::Tensor& log_kappa, const AttentionOptions& options);

// The same by LibTorch's own operations: slower, every form, and it can show its intermediates.
struct AttentionTrace {
  torch::Tensor scores, powers, divisor, inverse, weights;
};
AttentionResult PlainAttention(const torch::Tensor& qkv, const torch::Tensor& shift,
                               const torch::Tensor& log_kappa, const AttentionOptions& options,
                               AttentionTrace* trace = nullptr);

// p(x) by Clenshaw's recurrence, differentiable.
torch::Tensor EvaluateChebyshev(const approx::Chebyshev& p, const torch::Tensor& x);

}  // namespace polyveil::train
