// How key switching splits Q into digits, per level of a key.
//
// A key of level L holds digits x (limbs + special) limbs and its P must exceed each digit, so
// fewer digits need more special primes: digits x (limbs + special) falls with every digit saved,
// down to one digit and P ~ Q_L, and what limits it is the security bound on Q_L P. Low levels,
// where Q_L is small, hence get one digit. All P are prefixes of one list of primes.
#pragma once

#include <span>
#include <vector>

#include "ring/modulus.h"

namespace polyveil::ckks {

struct DigitPlan {
  std::vector<int> special;            // by level: primes of P in a key of that level
  std::vector<std::vector<int>> ends;  // [special]: end of each digit in the limbs of Q; [0] empty

  // Digits of the first `limbs` limbs.
  int digits(int limbs, int special) const;
};

// What the choice depends on, primes given by their log2.
struct DigitPlanInput {
  std::vector<double> log_q;  // one per limb
  std::vector<double> log_p;  // the special primes on offer
  std::vector<int> limbs;     // by level
  int top_special = 1;        // fixed for the highest level
  double max_log_qp = 0;      // of every key, the highest level's apart
  std::vector<int> tops;      // levels that many keys stop at: each begins a run of its own
};

// For each level the fewest digits that the bound allows, then the fewest special primes. Levels
// take the special primes of the next higher one while that has as many digits and costs at most a
// fifth (or one) more primes: keys of neighbouring levels can then serve one hoisted group.
DigitPlan ChooseDigits(const DigitPlanInput& input);

// Digit ends when each digit takes as many limbs as stay below P = the first `special` primes (at
// least one each).
std::vector<int> PackDigits(std::span<const double> log_q, double log_p);

// Time of one key switch at `level` with a key of `special` special primes, in units of one
// transform of a limb.
class Parameters;
double KeySwitchCost(const Parameters& params, int level, int special);

}  // namespace polyveil::ckks
