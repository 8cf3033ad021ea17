// A softmax model made polynomial directly, the way that Power-Softmax is compared with: its
// exponential, division or normalise-and-square approximated on the ranges seen, nothing retrained.
#pragma once

#include "model/bundle.h"
#include "train/convert.h"

namespace polyveil::train {

struct BaselineOptions {
  model::AttentionKind kind = model::AttentionKind::kExponential;
  ConvertOptions norms;  // budgets and margin; the margin also stretches the scores' interval
  double error = 0.05;   // relative, of the weights
  int calibration_batches = 40;
  int heldout_windows = 16;  // evaluated in float64 by the reference; a window takes about a second
};

struct BaselineResult {
  std::string model_json;             // as a bundle's model.json, without the tensors' digest
  std::vector<std::uint8_t> tensors;  // F32
  std::vector<std::string> lines;     // what was chosen, a line a layer
  double softmax_nats = 0, polynomial_nats = 0;  // per token of the same windows
  std::uint64_t positions = 0, evaluations = 0, escapes = 0;
  double worst_ratio = 1;
};

// Errors: kMismatch unless every layer is softmax without QK-norm; kOutOfRange where no
// approximation fits.
Result<BaselineResult> MakeSoftmaxBaseline(const LoadedModel& softmax, const Dataset& data,
                                           const BaselineOptions& options);

}  // namespace polyveil::train
