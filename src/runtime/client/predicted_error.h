// The error that an encrypted run of a model would have, from a simulated one: seconds, no keys.
#pragma once

#include "ckks/parameters.h"
#include "model/client/language_model.h"

namespace polyveil::runtime {

struct PredictionOptions {
  int texts = 2, tokens = 12;  // sampled from the model itself, so that a bundle needs no text
  std::uint64_t seed = 1;      // of the text and of the noise
};

// The largest difference of a logit between the program with the parameters' noise in every
// operation and float64, over sampled text. Errors: those of CompileModel (no program for this
// shape or these polynomials), kOutOfRange where a logit is no number (text, position).
Result<double> PredictLogitError(const std::shared_ptr<const model::Decoder>& decoder,
                                 const model::ClientBundle& client,
                                 const ckks::ParametersPtr& params,
                                 const PredictionOptions& options = {});

}  // namespace polyveil::runtime
