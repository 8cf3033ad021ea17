// Where a run's tensors are.
#pragma once

#include <torch/torch.h>

#include <string>

#include "base/result.h"

namespace polyveil::train {

// name: "cpu", "cuda" or "cuda:N". A CUDA device's float32 products run as TF32 (operands rounded
// to 10 bits behind the point, sums in float32). Errors: kInvalidArgument for another name,
// kNotFound where this LibTorch has no such device.
Result<torch::Device> OpenDevice(const std::string& name);

}  // namespace polyveil::train
