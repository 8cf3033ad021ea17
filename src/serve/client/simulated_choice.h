// Free-running texts on the simulator: the server's program chooses each token and feeds it back.
#pragma once

#include <string>
#include <vector>

#include "serve/client/simulated_text.h"

namespace polyveil::serve {

// A choice is clear where the largest logit (with its noise) leads by more than this.
inline constexpr double kClearChoice = 0.05;

struct ChosenToken {
  double gap = 0;              // of the first two logits in float64, noise added
  double certainty = 0;        // that the client reads; NaN where it reads none
  double embedding_error = 0;  // of what was fed back, relative to it
  bool decided = false, right = false, alarm = false;
};

struct ChoiceReport {
  int texts = 0;
  std::vector<ChosenToken> tokens;
  std::map<std::string, runtime::EscapeReport> sites;
  // By number of tokens since the prompt: the largest error of what was fed back.
  std::vector<double> error_by_token;
  std::string first_alarm;

  std::uint64_t undecided = 0, wrong = 0;                         // of all
  std::uint64_t clear = 0, clear_undecided = 0, clear_wrong = 0;  // of those with a clear lead
  std::uint64_t alarms = 0;  // of the client's guard where float64 is finite

  void Merge(const ChoiceReport& other);
};

struct ChoosingRun {
  int tokens = 16;
  double temperature = 0;
  std::uint64_t seed = 1;
};

// setup: its program chooses. text: what stands before a text and a prompt. What is right is what
// float64's polynomial model chooses behind the same tokens with the same noise. Behind an
// undecided or a wrong token the text goes on from the right one, as a client does. Errors:
// kInvalidArgument for a program that chooses nothing, kOutOfRange for a text beyond the context.
Result<ChoiceReport> SimulateChoices(const SimulationSetup& setup, std::vector<model::TokenId> text,
                                     const ChoosingRun& run);

// Errors: kMismatch for wrong tokens with a clear lead, or a guard's false alarms.
Status JudgeChoices(const ChoiceReport& report);

// Draws of one token behind a text against the softmax.
struct DrawReport {
  int draws = 0, undecided = 0, cells = 0;
  double chi_squared = 0, limit = 0;  // limit: passed once in a thousand runs
};
Result<DrawReport> SimulateDraws(const SimulationSetup& setup,
                                 const std::vector<model::TokenId>& text, int draws,
                                 const ChoosingRun& run);

}  // namespace polyveil::serve
