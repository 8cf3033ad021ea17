// Differentiable operations on rows; on the CPU one pass over memory forward and one backward each.
#pragma once

#include <torch/torch.h>

namespace polyveil::train {

// Mean of squares: x [..., d] -> [..., 1].
torch::Tensor MeanSquare(const torch::Tensor& x);

// x * gain * factor: x [..., d], gain [d], factor [..., 1], or undefined for 1.
torch::Tensor ScaleRows(const torch::Tensor& x, const torch::Tensor& gain,
                        const torch::Tensor& factor = {});

// x + y * factor: x, y [..., d], factor [..., 1].
torch::Tensor AddScaled(const torch::Tensor& x, const torch::Tensor& y,
                        const torch::Tensor& factor);

// h [..., 2 f]: the product of its two halves, [..., f].
torch::Tensor HalvesProduct(const torch::Tensor& h);

// The same by LibTorch's own operations, on any device.
namespace plain {
torch::Tensor MeanSquare(const torch::Tensor& x);
torch::Tensor ScaleRows(const torch::Tensor& x, const torch::Tensor& gain,
                        const torch::Tensor& factor = {});
torch::Tensor AddScaled(const torch::Tensor& x, const torch::Tensor& y,
                        const torch::Tensor& factor);
torch::Tensor HalvesProduct(const torch::Tensor& h);
}  // namespace plain

}  // namespace polyveil::train
