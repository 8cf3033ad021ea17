// A polynomial in the place of 1/(x + shift)^order (or of any function): one Chebyshev series, or a
// series refined by Goldschmidt's or Newton's steps or by a second series. Reference, trainer and
// compiler evaluate this one definition.
#pragma once

#include "approx/chebyshev.h"

namespace polyveil::approx {

enum class Refinement {
  kNone,         // y = s(x), the series
  kGoldschmidt,  // e = 1 - (x + shift) s(x); y = s(x) (1 + e)(1 + e^2)(1 + e^4)...; order 1 only
  kNewton,       // order 1: y <- y (2 - (x + shift) y); order 1/2: y <- y (3 - (x + shift) y^2) / 2
  kComposite,    // y = s(x) c(e), c minimax for (1 - e)^-order, e = 1 - (x + shift) s(x)^(1/order)
};
const char* RefinementName(Refinement refinement);

struct Approximant : Chebyshev {
  Refinement refinement = Refinement::kNone;
  double order = 1;  // 1 or 1/2; of the refinements
  double shift = 0;
  int steps = 0;           // kGoldschmidt, kNewton
  Chebyshev correction{};  // kComposite: c on [-d, d]

  Approximant() = default;
  Approximant(Chebyshev series) : Chebyshev(std::move(series)) {}  // NOLINT: a series is one
  Approximant(double lo, double hi, std::vector<double> c) : Chebyshev{lo, hi, std::move(c)} {}

  double operator()(double x) const;
  double Derivative(double x) const;
  // Multiplicative levels, the start's included.
  int LevelDepth() const;
  // Iterations of more steps than this may be bootstrapped inside, which takes a level for the
  // unit.
  static constexpr int kUncutSteps = 6;
  bool cuts() const { return refinement == Refinement::kGoldschmidt && steps > kUncutSteps; }
  // Ciphertext products: Paterson-Stockmeyer for the series.
  int Products() const;
};

// The checks of a series and of what refines it.
Status Validate(const Approximant& p, const std::string& where);

// Clenshaw's recurrence for any type with + - * and doubles.
template <typename T>
T EvaluateSeries(const Chebyshev& p, const T& x) {
  const T u = (x * 2.0 - (p.a + p.b)) * (1 / (p.b - p.a));
  T b1 = u * 0.0, b2 = b1;
  for (std::size_t k = p.coeffs.size(); k-- > 1;) {
    const T b0 = u * b1 * 2.0 - b2 + p.coeffs[k];
    b2 = b1;
    b1 = b0;
  }
  return u * b1 - b2 + p.coeffs[0];
}

template <typename T>
T Evaluate(const Approximant& p, const T& x) {
  T y = EvaluateSeries<T>(p, x);
  if (p.refinement == Refinement::kNone) return y;
  const T shifted = x + p.shift;
  const bool root = p.order == 0.5;
  if (p.refinement == Refinement::kNewton) {
    for (int i = 0; i < p.steps; ++i)
      y = root ? y * 1.5 - shifted * y * (y * y) * 0.5 : y * 2.0 - shifted * y * y;
    return y;
  }
  T e = (root ? shifted * y * y : shifted * y) * -1.0 + 1.0;
  if (p.refinement == Refinement::kComposite) return y * EvaluateSeries<T>(p.correction, e);
  for (int i = 0; i < p.steps; ++i) {
    y = y + y * e;
    e = e * e;
  }
  return y;
}

}  // namespace polyveil::approx
