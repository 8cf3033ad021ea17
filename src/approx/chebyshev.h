// Chebyshev series on an interval: the form in which every non-polynomial of a model is stored.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/result.h"

namespace polyveil::approx {

using Function = std::function<double(double)>;

// p(x) = sum_k coeffs[k] T_k(u), u = (2x - (a + b)) / (b - a). Defined everywhere, fitted on [a,
// b].
struct Chebyshev {
  double a = -1;
  double b = 1;
  std::vector<double> coeffs;

  int degree() const { return static_cast<int>(coeffs.size()) - 1; }
  bool Contains(double x) const { return x >= a && x <= b; }
  double ToUnit(double x) const { return (2 * x - (a + b)) / (b - a); }

  // Clenshaw's recurrence. Cost: degree multiplications. Valid outside [a, b] too, where it may
  // grow.
  double operator()(double x) const;

  // dp/dx at x.
  double Derivative(double x) const;
};

// Refuses a >= b, no coefficients, and numbers that are not finite; `where` names the field.
Status Validate(const Chebyshev& series, const std::string& where);

// Interpolates f at the degree + 1 Chebyshev points of [a, b]. Requires a < b, degree >= 0.
Chebyshev Interpolate(const Function& f, double a, double b, int degree);

// Weighted least squares on `points` Chebyshev nodes: minimises sum (w(x) (p(x) - f(x)))^2.
// Requires points > degree. Normal equations in a Chebyshev basis: well conditioned to degree ~60.
Chebyshev FitLeastSquares(const Function& f, const Function& weight, double a, double b, int degree,
                          int points);

// Largest |weight(x) (p(x) - f(x))| on a grid of `points` Chebyshev-spaced points, ends included.
double MaxError(const Chebyshev& p, const Function& f, const Function& weight, int points = 4001);

// Multiplicative depth of a degree-d series by a tree of products: ceil(log2(degree + 1)).
int Depth(int degree);

// The Chebyshev series of p as monomial coefficients in u on [-1, 1] (for tests and reports).
std::vector<double> ToMonomial(std::span<const double> coeffs);

}  // namespace polyveil::approx
