// Products of activations and weights at a chosen precision.
#pragma once

#include <torch/torch.h>

#include "train/train_config.h"

namespace polyveil::train {

// An update b a of a matrix [out, in]: a [rank, in], b [out, rank]; undefined: none.
struct LowRank {
  torch::Tensor a, b;
};

// x (w + b a)^T + bias: x [..., in], w [out, in], bias [out] or undefined -> [..., out]. w may be
// stored as bfloat16 under a float32 x; no gradient of it is formed unless it wants one. Under
// kBf16 the operands of this product and of the gradients' are rounded to bfloat16 (relative 2^-9
// each), sums and results stay float32; on another device than the CPU they stay as its products
// take them (device.h).
torch::Tensor Linear(const torch::Tensor& x, const torch::Tensor& w, Precision precision,
                     const torch::Tensor& bias = {}, const LowRank& update = {});

// a b without gradients: a [m, k], b [k, n], float32 or float64.
torch::Tensor Product(const torch::Tensor& a, const torch::Tensor& b, Precision precision);

}  // namespace polyveil::train
