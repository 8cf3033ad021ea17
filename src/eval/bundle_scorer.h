// Log-probabilities under a bundle of ours, whoever evaluates its body: the float64 reference, the
// noise simulator or the engine on ciphertexts.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "eval/text_scorer.h"
#include "model/client/language_model.h"

namespace polyveil::model {

// One text on its way through a bundle's body.
class BodyRunner {
 public:
  virtual ~BodyRunner() = default;
  // d_model values of the next token in, the residual after the last block out.
  virtual Result<std::vector<double>> Step(std::span<const double> embedding) = 0;
  // A text of its own that has read what this one has read.
  virtual std::unique_ptr<BodyRunner> Clone() const = 0;
};

struct BodySource {
  // An empty text for a group of requests (ScoreRequest::group).
  std::function<std::unique_ptr<BodyRunner>(std::size_t group)> start;
  bool concurrent = true;  // texts of several groups may run at the same time
};

// Requests of a group read the tokens that they share once.
std::unique_ptr<TextScorer> MakeScorer(std::shared_ptr<const LanguageModelBundle> bundle,
                                       BodySource source);
// In float64: the bundle's polynomials, or the exact functions in their place.
std::unique_ptr<TextScorer> MakeScorer(std::shared_ptr<const LanguageModelBundle> bundle,
                                       Evaluation evaluation);

// Steps that a scorer of a bundle takes for requests: every prefix of a group once, provided that
// requests with more in common stand closer to each other.
std::size_t CountSteps(std::span<const ScoreRequest> requests);

}  // namespace polyveil::model
