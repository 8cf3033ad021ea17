// Minimax fits by the Remez exchange, for an absolute or a weighted (relative) error.
#pragma once

#include "approx/chebyshev.h"

namespace polyveil::approx {

struct MinimaxFit {
  Chebyshev series;
  double error = 0;    // max |weight (p - f)| on the fine grid
  int iterations = 0;  // exchanges until the reference levelled
};

// Best degree-d polynomial for f on [a, b] under max |weight(x) (p(x) - f(x))|.
// Requires f and weight continuous, weight > 0, a < b.
// Errors: kInvalidArgument (bad interval or degree), kOutOfRange (no convergence in 100 exchanges).
// Source: Remez 1934; the exchange of all alternating extrema on a Chebyshev-spaced grid.
Result<MinimaxFit> Minimax(const Function& f, const Function& weight, double a, double b,
                           int degree);

// Minimax in *relative* error for 1/x, 1/sqrt(x); requires 0 < a < b.
Result<MinimaxFit> MinimaxInverse(double a, double b, int degree);
Result<MinimaxFit> MinimaxInverseSqrt(double a, double b, int degree);

// The relative minimax error of 1/x on [a, b] in closed form: 1 / T_{degree+1}((b + a) / (b - a)),
// because 1 - x p(x) ranges over the polynomials of degree + 1 that are 1 at 0.
double InverseMinimaxError(double a, double b, int degree);

}  // namespace polyveil::approx
