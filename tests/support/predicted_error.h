// The error that the noise model predicts for a text: what tests of encrypted runs compare with.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "base/worst.h"
#include "model/decoder_reference.h"
#include "runtime/simulator.h"
#include "support/encrypted_run.h"

namespace polyveil::testing {

// The largest difference from the expected outputs in some simulated runs over the text.
inline double PredictedError(const std::shared_ptr<const compile::CompiledProgram>& program,
                             const std::vector<std::vector<double>>& text,
                             const std::vector<std::vector<double>>& expected) {
  constexpr int kRuns = 8;
  double worst = 0;
  for (int run = 0; run < kRuns; ++run) {
    runtime::Simulator simulator(program, runtime::NoiseModel::ForParameters(*program->params()),
                                 run);
    for (size_t i = 0; i < text.size(); ++i)
      worst = Worse(worst, LargestDifference(expected[i], *simulator.Step(text[i])));
  }
  return worst;
}

inline double PredictedError(const std::shared_ptr<const compile::CompiledProgram>& program,
                             const model::Decoder& decoder,
                             const std::vector<std::vector<double>>& text) {
  model::DecoderReference reference(decoder);
  std::vector<std::vector<double>> expected;
  for (const auto& token : text) expected.push_back(*reference.Step(token));
  return PredictedError(program, text, expected);
}

}  // namespace polyveil::testing
