#include "approx/bounded_root.h"

#include <cmath>
#include <utility>

#include "approx/remez.h"

namespace polyveil::approx {
namespace {

constexpr int kDegrees[] = {3, 7, 15};
constexpr int kLargestDegree = 15;

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

// The start leaves e = 1 - x s^2 in [0, 1 - r^2]; the correction is ~ (1 - e)^(-1/2) on it.
Result<Bounded> Correction(double least) {
  const double end = 1 - least * least;
  PV_ASSIGN_OR_RETURN(MinimaxFit fit,
                      Minimax([](double e) { return 1 / std::sqrt(1 - e); },
                              [](double e) { return std::sqrt(1 - e); }, 0, end, kLargestDegree));
  Bounded bounded{std::move(fit.series), (1 - fit.error) / (1 + fit.error)};
  for (double& c : bounded.series.coeffs) c /= 1 + fit.error;
  return bounded;
}

}  // namespace

Result<Approximant> BoundedInverseRoot(double a, double b, double tolerance) {
  if (!(0 < a && a < b))
    return MakeError(ErrorCode::kInvalidArgument, "an inverse root on [{}, {}]", a, b);
  Bounded start;
  for (const int degree : kDegrees) {
    PV_ASSIGN_OR_RETURN(start, FromBelow(a, b, degree));
    if (start.least >= 1 - tolerance) return Approximant(std::move(start.series));
  }
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
