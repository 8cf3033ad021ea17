// Causal attention as one differentiable operation: softmax, shifted Power-Softmax or pointwise
// powers. The definition is model/attention_form.h's.
#pragma once

#include <torch/torch.h>

#include <optional>
#include <vector>

#include "approx/approximant.h"
#include "train/train_config.h"

namespace polyveil::train {

struct AttentionOptions {
  AttentionForm form = AttentionForm::kPowerMean;
  int n_heads = 4;
  int power = 4;
  double eps = 1e-3;
  std::optional<approx::Approximant> inverse{};  // in the place of y -> 1 / (eps + y)
  std::vector<int> head_powers{};                // by head; empty: `power`
  bool mean = true;                              // divide by the number of keys
  double clamp = 0;  // >= 1: the inverse reads its interval widened by this ratio, clamped

  int PowerOf(std::int64_t head) const {
    return head_powers.empty() ? power : head_powers[static_cast<std::size_t>(head)];
  }
  bool divides() const { return form != AttentionForm::kPointwise; }
};

struct AttentionResult {
  torch::Tensor output;  // [batch, context, d_model], heads side by side
  torch::Tensor
      divisor;  // [batch, heads, context], normalised by kappa; undefined unless powers are divided
};

// qkv [batch, context, 3 d_model] (queries, keys, values), shift and log_kappa [heads].
// Scores are q.k / sqrt(d_head) + shift; row i sees keys 0..i, n = i + 1 (1 in the sum form).
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

// p(x), differentiable; with clamp >= 1, p of x clamped to p's interval widened by that ratio.
torch::Tensor EvaluateApproximant(const approx::Approximant& p, const torch::Tensor& x,
                                  double clamp = 0);

}  // namespace polyveil::train
