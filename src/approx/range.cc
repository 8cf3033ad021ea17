#include "approx/range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace polyveil::approx {

void Range::Add(double x) { Merge({x, x, 1}); }

// A NaN on either side stays: no order of merging may lose it.
void Range::Merge(const Range& other) {
  if (other.count == 0) return;
  if (count == 0 || other.lo < lo || std::isnan(other.lo)) lo = other.lo;
  if (count == 0 || other.hi > hi || std::isnan(other.hi)) hi = other.hi;
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

double RatioMargin(const Range& range, double a, double b) {
  if (!range.finite()) return 0;
  const double above = range.hi > 0 ? b / range.hi : std::numeric_limits<double>::infinity();
  const bool zero = a == 0 && range.lo >= 0;  // an end that nothing can pass leaves any margin
  const double below = zero ? above : a < 0 ? (range.lo < 0 ? a / range.lo : above) : range.lo / a;
  const double margin = above < below ? above : below;
  return margin > 0 ? margin : 0;  // 0: an end was passed by sign
}

double EscapeRatio(double x, double a, double b) {
  if (x >= a && x <= b) return 1;
  if (std::isnan(x)) return std::numeric_limits<double>::infinity();
  if (x > b) return b > 0 ? x / b : std::numeric_limits<double>::infinity();
  if (a < 0) return x / a;
  return x > 0 ? a / x : std::numeric_limits<double>::infinity();
}

}  // namespace polyveil::approx
