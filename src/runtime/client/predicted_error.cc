#include "runtime/client/predicted_error.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "runtime/compile_model.h"
#include "runtime/simulator.h"

namespace polyveil::runtime {
namespace {

using model::TokenId;

// Both must be numbers: a comparison with NaN would pass for agreement.
Result<double> CheckedDifference(std::span<const double> expected, std::span<const double> actual) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(expected[i] - actual[i]);
    if (!std::isfinite(difference))
      return MakeError(ErrorCode::kOutOfRange, "logit {}: {} in float64, {} simulated", i,
                       expected[i], actual[i]);
    largest = std::max(largest, difference);
  }
  return largest;
}

class Prediction {
 public:
  Prediction(const model::ClientBundle& client,
             std::shared_ptr<const compile::CompiledDecoder> program)
      : client_(client),
        program_(std::move(program)),
        noise_(NoiseModel::ForParameters(*program_->params())) {}

  Result<double> Text(int tokens, std::uint64_t seed) const {
    model::ReferenceLanguageModel reference(program_->decoder(), client_);
    Simulator simulator(program_, noise_, seed);
    model::Sampler sampler({.temperature = 1.0, .seed = seed});
    std::vector<TokenId> text{model::Tokenizer::kEnd};
    double largest = 0;
    for (int position = 0; position < tokens; ++position) {
      PV_ASSIGN_OR_RETURN(const auto expected, reference.Step(text.back(), position));
      PV_ASSIGN_OR_RETURN(const auto embedding, model::Embed(client_, text));
      PV_ASSIGN_OR_RETURN(const auto residual, simulator.Step(embedding));
      PV_ASSIGN_OR_RETURN(const auto actual, model::Head(client_, residual));
      const auto difference = CheckedDifference(expected, actual);
      if (!difference.ok())
        return MakeError(difference.error().code, "simulated token {} of text {}: {}", position,
                         seed, difference.error().message);
      largest = std::max(largest, *difference);
      text.push_back(sampler.Pick(expected));
    }
    return largest;
  }

 private:
  const model::ClientBundle& client_;
  std::shared_ptr<const compile::CompiledDecoder> program_;
  NoiseModel noise_;
};

}  // namespace

Result<double> PredictLogitError(const std::shared_ptr<const model::Decoder>& decoder,
                                 const model::ClientBundle& client,
                                 const ckks::ParametersPtr& params,
                                 const PredictionOptions& options) {
  PV_ASSIGN_OR_RETURN(auto program, CompileModel(decoder, params, compile::MachineSpeed{}));
  const Prediction prediction(client, std::move(program));
  const int tokens = std::min(options.tokens, decoder->context);
  double largest = 0;
  for (int i = 0; i < options.texts; ++i) {
    PV_ASSIGN_OR_RETURN(const double error,
                        prediction.Text(tokens, options.seed + static_cast<std::uint64_t>(i)));
    largest = std::max(largest, error);
  }
  return largest;
}

}  // namespace polyveil::runtime
