// Softmax by polynomials: the exponential by squarings, and the rounds of normalise-and-square.
#pragma once

#include "approx/choose.h"

namespace polyveil::approx {

// e ~ exp(z / 2^squarings) on [lo, hi]; e^(2^squarings) has relative error `error`.
struct ExponentialFit {
  Approximant series;
  int squarings = 0;
  double error = 0;
  int depth = 0;  // series and squarings
};

// The shallowest within the relative error, then the one with the fewest products.
// Requires lo < hi. Errors: kOutOfRange when 16 squarings and degree 63 do not reach it.
Result<ExponentialFit> FitExponential(double lo, double hi, double error);

// The same with a given number of squarings.
Result<ExponentialFit> FitExponential(double lo, double hi, double error, int squarings);

// 1/sqrt(m) for every round of normalise-and-square over at most `keys` keys: the first reads means
// of e^2, the later ones numbers in [1, keys], each with margin. A round's error is common to all
// keys and divided out by the next, so the last one's counts; the others only have to keep the next
// input inside its interval.
struct NormaliseSquareFit {
  ExponentialFit exponential;  // its squarings: the number of rounds
  std::vector<Candidate> rounds;
  int depth = 0;  // exponential, mask, and 4 levels beside each root
};
Result<NormaliseSquareFit> FitNormaliseSquare(double lo, double hi, int keys, double error);

}  // namespace polyveil::approx
