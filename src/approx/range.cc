#include "approx/range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace polyveil::approx {

void Range::Add(double x) { Merge({x, x, 1}); }

void Range::Merge(const Range& other) {
  if (other.count == 0) return;
  lo = count == 0 ? other.lo : std::min(lo, other.lo);
  hi = count == 0 ? other.hi : std::max(hi, other.hi);
  count += other.count;
}

Range WithRatioMargin(const Range& range, double margin) {
  PV_CHECK(range.lo > 0 && range.lo <= range.hi && margin >= 1, "range [{}, {}], margin {}",
           range.lo, range.hi, margin);
  return {range.lo / margin, range.hi * margin, range.count};
}

Range Widened(double a, double b, double ratio) {
  return {a > 0 ? a / ratio : a * ratio, b * ratio, 0};
}

double EscapeRatio(double x, double a, double b) {
  if (x >= a && x <= b) return 1;
  if (std::isnan(x)) return std::numeric_limits<double>::infinity();
  if (x > b) return b > 0 ? x / b : std::numeric_limits<double>::infinity();
  if (a < 0) return x / a;
  return x > 0 ? a / x : std::numeric_limits<double>::infinity();
}

}  // namespace polyveil::approx
