// Observed ranges of the inputs of non-polynomials, and the margins put around them.
#pragma once

#include <cmath>
#include <cstdint>

namespace polyveil::approx {

struct Range {
  double lo = 0;
  double hi = 0;
  std::uint64_t count = 0;

  void Add(double x);
  void Merge(const Range& other);  // keeps NaN
  bool finite() const { return std::isfinite(lo) && std::isfinite(hi); }
  double ratio() const { return hi / lo; }
};

// [lo / margin, hi * margin]: the interval for a positive input whose scale matters by ratio.
// Requires 0 < lo <= hi, margin >= 1.
Range WithRatioMargin(const Range& range, double margin);

// [a, b] widened by ratio >= 1: a positive a divided by it, everything else multiplied.
Range Widened(double a, double b, double ratio);

// The ratio that the nearer end of [a, b] leaves to the range: below 1 where it was passed, 0 where
// an end of the range is not finite or has a sign that the interval lacks.
double RatioMargin(const Range& range, double a, double b);

// How far x lies outside [a, b] as a ratio > 1 to the end it passed; 1 inside, infinity where the
// signs differ or x is NaN.
double EscapeRatio(double x, double a, double b);

}  // namespace polyveil::approx
