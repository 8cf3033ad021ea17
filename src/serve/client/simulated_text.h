// A text on the slot simulator beside the float64 polynomial model and exact arithmetic, token by
// token.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compile/compiled_decoder.h"
#include "model/client/client_half.h"
#include "model/decoder_reference.h"
#include "runtime/simulator.h"
#include "serve/client/result_guard.h"

namespace polyveil::serve {

// Everything that texts share.
struct SimulationSetup {
  std::shared_ptr<const model::ClientHalf> half;
  std::shared_ptr<const compile::CompiledDecoder> program;
  runtime::NoiseModel noise;
  runtime::SimulatedSlots slots;
  ResultGuard guard;
};

// With the noise of these parameters, on one period of the slots. Errors: those of CompileModel.
Result<SimulationSetup> SetUpSimulation(std::shared_ptr<const model::ClientHalf> half,
                                        std::shared_ptr<const model::Decoder> decoder,
                                        const ckks::ParametersPtr& params,
                                        const compile::DecoderPrograms& programs);

// Simulated logits against those of exact functions.
struct ExactTally {
  std::uint64_t tokens = 0, changed = 0;  // changed: another next token
  double largest_error = 0;               // of a logit; infinity for what is no number

  void Add(bool changes, double error);
  void Merge(const ExactTally& other);
};

// A token at or behind its text's first out-of-range input.
struct EscapedToken {
  double error;  // as above
  bool changed, alarm;
};

struct SiteReport {
  runtime::EscapeReport read;
  int first = 0;     // texts whose first token with any such input has one here
  ExactTally after;  // tokens at or behind this site's first one in their text
};

struct SimulationReport {
  int texts = 0, equal_texts = 0;
  // Against the float64 polynomial model: the noise's part.
  std::uint64_t tokens = 0, equal_tokens = 0, clear_differences = 0;
  double largest_logit_error = 0, smallest_margin = 1e30;  // margin: first minus second logit
  // Tokens with a logit that is not finite, on either side; the first site that read one.
  std::uint64_t not_finite = 0;
  std::string first_not_finite;
  ExactTally ordinary;  // tokens before any out-of-range input of their text
  std::vector<EscapedToken> escaped;
  std::uint64_t false_alarms = 0;  // of the client's guard, at ordinary tokens
  std::string first_false_alarm;
  std::map<std::string, SiteReport> sites;

  void Merge(const SimulationReport& other);
  // An out-of-range input has an effect where a next token changes and the logits' error is above
  // that of every ordinary token.
  bool HasEffect(const EscapedToken& token) const;
};

// A token differs clearly when the right one leads by more than this: by 10% in probability.
inline constexpr double kClearGap = 0.1;

// text: what stands before a text and a prompt. Feeds its tokens, then the exact model's greedy
// ones, so that every token is compared, also after a disagreement. Errors: kOutOfRange for a text
// beyond the context.
Result<SimulationReport> SimulateText(const SimulationSetup& setup,
                                      std::vector<model::TokenId> text, int new_tokens,
                                      std::uint64_t seed);

// Errors: kMismatch names whatever is not as it must be: values that are not finite, clear
// differences, effects of out-of-range inputs, false alarms.
Status JudgeSimulation(const SimulationReport& report);

}  // namespace polyveil::serve
