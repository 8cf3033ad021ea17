// 1/sqrt(x) from below, on intervals of any ratio: for what is normalised again later, where a
// value above 1 would do harm and a factor of one half does not.
#pragma once

#include "approx/approximant.h"

namespace polyveil::approx {

// p with 1 - tolerance <= p(x) sqrt(x) <= 1 on [a, b] up to float64's rounding, of the least depth:
// a series of degree 3, 7 or 15, else a composite of two of degree 15 whose correction is
// fitted on the residues [0, 1 - r^2] that the start leaves. Below a it is bounded by p(0). Errors:
// kInvalidArgument unless 0 < a < b, kOutOfRange where none is close enough (interval, tolerance
// and what was reached).
Result<Approximant> BoundedInverseRoot(double a, double b, double tolerance);

}  // namespace polyveil::approx
