// The error that the noise model predicts for a text: what tests of encrypted runs compare with.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "model/reference.h"
#include "runtime/simulator.h"
#include "support/encrypted_run.h"

namespace polyveil::testing {

// The largest difference from the reference in some simulated runs over the text.
inline double PredictedError(const std::shared_ptr<const compile::CompiledModel>& model,
                             const std::vector<std::vector<double>>& text) {
  constexpr int kRuns = 8;
  double worst = 0;
  for (int run = 0; run < kRuns; ++run) {
    model::ReferenceModel reference(model->bundle());
    runtime::Simulator simulator(model, runtime::NoiseModel::ForParameters(*model->params()), run);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto expected = reference.StepFromEmbedding(text[i], static_cast<int>(i));
      worst = std::max(worst, LargestDifference(*expected, *simulator.Step(text[i])));
    }
  }
  return worst;
}

}  // namespace polyveil::testing
