// Which approximation for a site: every family that meets an error budget, and the cheapest of
// them.
#pragma once

#include <string>
#include <vector>

#include "approx/approximant.h"

namespace polyveil::approx {

enum class Target { kInverse, kInverseRoot };  // 1/(x + shift), 1/sqrt(x + shift)

struct Budget {
  double error = 0.05;  // largest relative error on the interval
  int depth = 16;       // levels
};

struct Candidate {
  std::string method;  // "remez", "chebyshev", "composite", "goldschmidt", "newton"
  Approximant polynomial;
  double error = 0;  // largest relative error on the interval
  int depth = 0, products = 0;
  // Largest |relative error| at 0.8 a and 1.25 b: how an input a quarter beyond the interval fares.
  double beyond = 0;
};

// The shallowest member of each family within the budget on [a, b]; of equal depth the one with the
// fewest products, then the smallest error. A level that is paid is used: a series takes the
// largest degree of its depth. Requires 0 < a < b. Cost: some tens of Remez fits.
std::vector<Candidate> Candidates(Target target, double a, double b, double shift,
                                  const Budget& budget);

// The cheapest: depth, products, behaviour beyond the interval, in this order. Errors: kOutOfRange
// when nothing fits the budget (interval, error and depth named).
Result<Candidate> Choose(const std::vector<Candidate>& candidates, double a, double b,
                         const Budget& budget);

// Minimax series of a fixed degree as a candidate.
Result<Candidate> SeriesOfDegree(Target target, double a, double b, double shift, int degree);

}  // namespace polyveil::approx
