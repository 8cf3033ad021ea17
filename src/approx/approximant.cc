#include "approx/approximant.h"

#include <algorithm>
#include <cmath>

#include "approx/goldschmidt.h"

namespace polyveil::approx {
namespace {

// A value with its derivative.
struct Dual {
  double value, slope;
};
Dual operator+(Dual x, Dual y) { return {x.value + y.value, x.slope + y.slope}; }
Dual operator-(Dual x, Dual y) { return {x.value - y.value, x.slope - y.slope}; }
Dual operator*(Dual x, Dual y) {
  return {x.value * y.value, x.value * y.slope + x.slope * y.value};
}
Dual operator+(Dual x, double c) { return {x.value + c, x.slope}; }
Dual operator-(Dual x, double c) { return {x.value - c, x.slope}; }
Dual operator*(Dual x, double c) { return {x.value * c, x.slope * c}; }

int SeriesProducts(int degree) {
  const int depth = Depth(degree), baby = std::max(1, depth / 2);
  return ((1 << baby) - 1) + (depth - baby) + ((degree >> baby) - 1);
}

}  // namespace

const char* RefinementName(Refinement refinement) {
  switch (refinement) {
    case Refinement::kNone:
      return "series";
    case Refinement::kGoldschmidt:
      return "goldschmidt";
    case Refinement::kNewton:
      return "newton";
    case Refinement::kComposite:
      return "composite";
  }
  return "unknown";
}

double Approximant::operator()(double x) const {
  return refinement == Refinement::kNone ? Chebyshev::operator()(x) : Evaluate<double>(*this, x);
}

double Approximant::Derivative(double x) const { return Evaluate<Dual>(*this, Dual{x, 1}).slope; }

int Approximant::LevelDepth() const {
  const int start = Depth(degree()), residue = order == 0.5 ? 2 : 1;
  switch (refinement) {
    case Refinement::kNone:
      return start;
    case Refinement::kGoldschmidt:
      return start + GoldschmidtDepth(steps) + cuts();
    case Refinement::kNewton:
      return start + 2 * steps;  // (x y) and y^2 stand beside each other in the root's step
    case Refinement::kComposite:
      return start + residue + Depth(correction.degree()) + 1;
  }
  return start;
}

int Approximant::Products() const {
  const int start = SeriesProducts(degree()), residue = order == 0.5 ? 2 : 1;
  switch (refinement) {
    case Refinement::kNone:
      return start;
    case Refinement::kGoldschmidt:
      return start + 2 * steps;  // x y, then y (1 + e) and e^2, the last e^2 spared
    case Refinement::kNewton:
      return start + (order == 0.5 ? 3 : 2) * steps;
    case Refinement::kComposite:
      return start + residue + SeriesProducts(correction.degree()) + 1;
  }
  return start;
}

Status Validate(const Approximant& p, const std::string& where) {
  PV_RETURN_IF_ERROR(Validate(static_cast<const Chebyshev&>(p), where));
  if (p.refinement == Refinement::kNone) return {};
  if (!(p.order == 1 || (p.order == 0.5 && p.refinement != Refinement::kGoldschmidt)))
    return MakeError(ErrorCode::kOutOfRange, "{}: order {} of a {} refinement", where, p.order,
                     RefinementName(p.refinement));
  if (!std::isfinite(p.shift) || p.steps < 0 || p.steps > 64)
    return MakeError(ErrorCode::kOutOfRange, "{}: shift {}, {} steps", where, p.shift, p.steps);
  if (p.refinement == Refinement::kComposite) return Validate(p.correction, where + ".correction");
  return {};
}

}  // namespace polyveil::approx
