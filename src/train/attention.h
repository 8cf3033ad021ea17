// Attention as one differentiable operation: softmax, shifted Power-Softmax or pointwise
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
  double clamp = 0;    // >= 1: the inverse reads its interval widened by this ratio, clamped
  int n_kv_heads = 0;  // groups of n_heads / n_kv_heads query heads share keys; 0: n_heads
  bool causal = true;  // else every row sees every key
  int exact_rows = 0;  // so many first rows divide exactly whatever `inverse` is

  int kv_heads() const { return n_kv_heads > 0 ? n_kv_heads : n_heads; }
  int d_head(std::int64_t qkv_width) const {
    return static_cast<int>(qkv_width) / (n_heads + 2 * kv_heads());
  }
  int PowerOf(std::int64_t head) const {
    return head_powers.empty() ? power : head_powers[static_cast<std::size_t>(head)];
  }
  bool divides() const { return form != AttentionForm::kPointwise; }
};

struct AttentionResult {
  torch::Tensor output;  // [batch, context, n_heads d_head], heads side by side
  torch::Tensor
      divisor;  // [batch, heads, context], normalised by kappa; undefined unless powers are divided
};

// qkv [batch, context, (n_heads + 2 n_kv_heads) d_head] (queries, keys, values), shift and
// log_kappa [heads]. Scores are q.k / sqrt(d_head) + shift; row i sees n keys (1 in the sum form):
// 0..i, or all. Keeps O(batch heads context^2) values nowhere: scores are recomputed in the
// backward pass.
AttentionResult FusedAttention(const torch::Tensor& qkv, const torch::Tensor& shift,
                               const torch::Tensor& log_kappa, const AttentionOptions& options);

// The same by LibTorch's own operations, in two parts: slower, every form, and they show what is
// between.
struct HeadScores {
  torch::Tensor scores;  // q.k / sqrt(d_head), [batch, heads, context, context]
  torch::Tensor values;  // [batch, heads, context, d_head]
  torch::Tensor mask;    // [context, context]: 1 where a row sees a key, else 0
};
HeadScores ScoreHeads(const torch::Tensor& qkv, const AttentionOptions& options);

// scores: with the shift, 0 where no key is seen. What a form has not is undefined.
struct AttentionTrace {
  torch::Tensor scores, powers, divisor, inverse, weights;
};
AttentionTrace WeighScores(const HeadScores& heads, const torch::Tensor& shift,
                           const torch::Tensor& log_kappa, const AttentionOptions& options);

AttentionResult PlainAttention(const torch::Tensor& qkv, const torch::Tensor& shift,
                               const torch::Tensor& log_kappa, const AttentionOptions& options,
                               AttentionTrace* trace = nullptr);

// The fused kernel where it has the form, the tensors are the CPU's and nothing between is asked
// for, else the plain one.
AttentionResult Attend(const torch::Tensor& qkv, const torch::Tensor& shift,
                       const torch::Tensor& log_kappa, const AttentionOptions& options,
                       AttentionTrace* trace = nullptr);

// x^power by products, power even and positive.
torch::Tensor IntegerPower(const torch::Tensor& x, int power);

}  // namespace polyveil::train
