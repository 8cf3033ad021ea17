// Comparisons for reports: NaN is the worst value of all, which std::max and < would drop.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace polyveil {

// The larger of two errors; infinity when either is NaN.
inline double Worse(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::infinity();
  return std::max(a, b);
}

// The smaller of two margins or precisions; minus infinity when either is NaN.
inline double WorseMargin(double a, double b) { return -Worse(-a, -b); }

// max |a_i - b_i|. Infinity when a value is NaN, when both are the same infinity, or when the sizes
// differ.
template <typename A, typename B>
double LargestDifference(const A& a, const B& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = Worse(largest, std::abs(a[i] - b[i]));
  return largest;
}

template <typename Values>
bool AllFinite(const Values& values) {
  return std::ranges::all_of(values, [](double v) { return std::isfinite(v); });
}

}  // namespace polyveil
