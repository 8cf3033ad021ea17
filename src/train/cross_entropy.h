// Tied head and cross entropy in one operation: the logits exist one block of rows at a time.
#pragma once

#include <torch/torch.h>

namespace polyveil::train {

// Mean over targets >= 0 of -log softmax(hidden embed^T)[target].
// hidden [rows, d_model], embed [vocab, d_model], targets [rows] int64. Gradients are computed in
// the forward pass (three products in all) and scaled in the backward pass.
torch::Tensor HeadCrossEntropy(const torch::Tensor& hidden, const torch::Tensor& embed,
                               const torch::Tensor& targets);

// Sum of the losses and number of counted targets, without gradients.
struct LossSum {
  double nats = 0;
  std::int64_t count = 0;
};
LossSum HeadLossSum(const torch::Tensor& hidden, const torch::Tensor& embed,
                    const torch::Tensor& targets);

}  // namespace polyveil::train
