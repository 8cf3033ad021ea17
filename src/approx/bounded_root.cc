#include "approx/bounded_root.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "approx/remez.h"

namespace polyveil::approx {
namespace {

constexpr int kSeriesDegrees[] = {3, 7, 15};
constexpr int kCompositeDegree = 15;

// A series from below, and the least p sqrt(x) of it.
struct Bounded {
  Chebyshev series;
  double least = 0;
};

Result<Bounded> FromBelow(double a, double b, int degree) {
  PV_ASSIGN_OR_RETURN(MinimaxFit fit, MinimaxInverseSqrt(a, b, degree));
  Bounded bounded{std::move(fit.series), (1 - fit.error) / (1 + fit.error)};
  for (double& c : bounded.series.coeffs) c /= 1 + fit.error;
  return bounded;
}

// The start leaves e = 1 - x s^2 in [0, 1 - r^2], and below a up to 1: a correction of a shorter
// interval would be huge there.
constexpr double kLeastEnd = 0.9;

// The correction is ~ (1 - e)^(-1/2).
Result<Bounded> Correction(double least) {
  const double end = std::max(1 - least * least, kLeastEnd);
  PV_ASSIGN_OR_RETURN(MinimaxFit fit,
                      Minimax([](double e) { return 1 / std::sqrt(1 - e); },
                              [](double e) { return std::sqrt(1 - e); }, 0, end, kCompositeDegree));
  Bounded bounded{std::move(fit.series), (1 - fit.error) / (1 + fit.error)};
  for (double& c : bounded.series.coeffs) c /= 1 + fit.error;
  return bounded;
}

}  // namespace

Result<Approximant> BoundedInverseRoot(double a, double b, double tolerance) {
  if (!(0 < a && a < b))
    return MakeError(ErrorCode::kInvalidArgument, "an inverse root on [{}, {}]", a, b);
  for (const int degree : kSeriesDegrees) {
    PV_ASSIGN_OR_RETURN(Bounded series, FromBelow(a, b, degree));
    if (series.least >= 1 - tolerance) return Approximant(std::move(series.series));
  }
  PV_ASSIGN_OR_RETURN(Bounded start, FromBelow(a, b, kCompositeDegree));
  PV_ASSIGN_OR_RETURN(Bounded correction, Correction(start.least));
  if (correction.least < 1 - tolerance)
    return MakeError(ErrorCode::kOutOfRange,
                     "an inverse root on [{}, {}]: {} of it is reached at least, not 1 - {}", a, b,
                     correction.least, tolerance);
  Approximant p(std::move(start.series));
  p.refinement = Refinement::kComposite;
  p.order = 0.5;
  p.correction = std::move(correction.series);
  return p;
}

}  // namespace polyveil::approx
