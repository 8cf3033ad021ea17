// Goldschmidt's division as an iteration on (0, b]: the alternative to one Chebyshev series for
// 1/x.
#pragma once

namespace polyveil::approx {

// Best linear start in relative error on [a, b]: y0(x) = slope x + offset with
// max |1 - x y0| = error, minimal.
struct LinearStart {
  double slope, offset, error;
};
LinearStart InverseLinearStart(double a, double b);

// steps of e <- e^2, y <- y (1 + e) from the linear start. Requires 0 < a < b.
double GoldschmidtInverse(double x, double a, double b, int steps);

// Steps until the relative error on [a, b] is <= tolerance: error of the start squared per step.
int GoldschmidtSteps(double a, double b, double tolerance);

// Levels: 1 for x y0, then one a step (e^2 and y (1 + e) in parallel).
int GoldschmidtDepth(int steps);

}  // namespace polyveil::approx
