// A bundle's folder as a model of the trainer: what export.h writes, read back.
#pragma once

#include <string>

#include "train/trainer.h"

namespace polyveil::train {

// Norm gains are ones: the bundle holds them inside its matrices. Hinge centres stand in the middle
// of the intervals. Errors: those of the bundle's reader; kInvalidArgument for softmax forms.
Result<LoadedModel> LoadBundleModel(const std::string& folder, torch::ScalarType type);

}  // namespace polyveil::train
