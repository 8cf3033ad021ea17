// The exact activations, in whose places polynomials stand.
#pragma once

#include <torch/torch.h>

#include "approx/remez.h"
#include "model/block_kinds.h"

namespace polyveil::train {

torch::Tensor Activate(model::Activation activation, const torch::Tensor& x);

// The same of numbers.
approx::Function ExactActivation(model::Activation activation);

}  // namespace polyveil::train
