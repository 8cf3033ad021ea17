// Polynomials of tensors.
#pragma once

#include <torch/torch.h>

#include "approx/approximant.h"

namespace polyveil::train {

// p(x), differentiable; with clamp >= 1, p of x clamped to p's interval widened by that ratio.
torch::Tensor EvaluateApproximant(const approx::Approximant& p, const torch::Tensor& x,
                                  double clamp = 0);

// The same for many values: of a plain series the backward pass keeps dp/dx alone instead of every
// step of Clenshaw's recurrence.
torch::Tensor FusedSeries(const approx::Approximant& p, const torch::Tensor& x, double clamp = 0);

}  // namespace polyveil::train
