// A polynomial over many values as one differentiable operation.
#pragma once

#include <torch/torch.h>

#include "approx/approximant.h"

namespace polyveil::train {

// p(x) elementwise, p a plain series; the backward pass keeps dp/dx alone instead of every step of
// Clenshaw's recurrence. clamp as in EvaluateApproximant. Requires refinement kNone.
torch::Tensor FusedSeries(const approx::Approximant& p, const torch::Tensor& x, double clamp = 0);

}  // namespace polyveil::train
