// Tied head and cross entropy in one operation: the logits exist one block of rows at a time.
#pragma once

#include <torch/torch.h>

#include "train/train_config.h"

namespace polyveil::train {

// Mean over targets >= 0 of -log softmax(hidden embed^T)[target].
// hidden [rows, d_model], embed [vocab, d_model], targets [rows] int64. Gradients are computed in
// the forward pass (three products in all) and scaled in the backward pass. Under kBf16 the
// products' operands are rounded to bfloat16 (hidden, embed, and the logits' gradient).
torch::Tensor HeadCrossEntropy(const torch::Tensor& hidden, const torch::Tensor& embed,
                               const torch::Tensor& targets,
                               Precision precision = Precision::kFloat32);

// Sum of the losses and number of counted targets, without gradients, at full precision.
struct LossSum {
  double nats = 0;
  std::int64_t count = 0;
};
LossSum HeadLossSum(const torch::Tensor& hidden, const torch::Tensor& embed,
                    const torch::Tensor& targets);

}  // namespace polyveil::train
