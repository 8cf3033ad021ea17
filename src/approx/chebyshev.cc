#include "approx/chebyshev.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace polyveil::approx {
namespace {

double FromUnit(double a, double b, double u) { return 0.5 * ((b - a) * u + (a + b)); }

// Solves the symmetric positive definite system in place by Cholesky; n is a small degree + 1.
std::vector<double> SolveNormalEquations(std::vector<double> m, std::vector<double> rhs) {
  const std::size_t n = rhs.size();
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t k = 0; k < j; ++k) m[j * n + j] -= m[j * n + k] * m[j * n + k];
    PV_CHECK(m[j * n + j] > 0, "singular normal equations at column {}", j);
    m[j * n + j] = std::sqrt(m[j * n + j]);
    for (std::size_t i = j + 1; i < n; ++i) {
      for (std::size_t k = 0; k < j; ++k) m[i * n + j] -= m[i * n + k] * m[j * n + k];
      m[i * n + j] /= m[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) rhs[i] -= m[i * n + k] * rhs[k];
    rhs[i] /= m[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) rhs[i] -= m[k * n + i] * rhs[k];
    rhs[i] /= m[i * n + i];
  }
  return rhs;
}

}  // namespace

double Chebyshev::operator()(double x) const {
  const double u = ToUnit(x);
  double b1 = 0, b2 = 0;
  for (std::size_t k = coeffs.size(); k-- > 1;) {
    const double b0 = 2 * u * b1 - b2 + coeffs[k];
    b2 = b1;
    b1 = b0;
  }
  return u * b1 - b2 + coeffs[0];
}

double Chebyshev::Derivative(double x) const {
  // p' = sum_k k c_k U_{k-1}(u) du/dx, by Clenshaw's recurrence for the second kind.
  const double u = ToUnit(x);
  double b1 = 0, b2 = 0;
  for (std::size_t k = coeffs.size(); k-- > 1;) {
    const double b0 = 2 * u * b1 - b2 + static_cast<double>(k) * coeffs[k];
    b2 = b1;
    b1 = b0;
  }
  return b1 * 2 / (b - a);
}

Status Validate(const Chebyshev& series, const std::string& where) {
  if (!std::isfinite(series.a) || !std::isfinite(series.b) || !(series.a < series.b))
    return MakeError(ErrorCode::kOutOfRange, "{}: interval [{}, {}]", where, series.a, series.b);
  if (series.coeffs.empty()) return MakeError(ErrorCode::kCorrupt, "{}: no coefficients", where);
  for (const double c : series.coeffs)
    if (!std::isfinite(c)) return MakeError(ErrorCode::kOutOfRange, "{}: coefficient {}", where, c);
  return {};
}

Chebyshev Interpolate(const Function& f, double a, double b, int degree) {
  PV_CHECK(a < b && degree >= 0, "interval [{}, {}], degree {}", a, b, degree);
  const int n = degree + 1;
  Chebyshev out{a, b, std::vector<double>(static_cast<std::size_t>(n), 0.0)};
  for (int j = 0; j < n; ++j) {
    const double angle = std::numbers::pi * (j + 0.5) / n;
    const double value = f(FromUnit(a, b, std::cos(angle)));
    for (int k = 0; k < n; ++k)
      out.coeffs[static_cast<std::size_t>(k)] += (k ? 2.0 : 1.0) / n * value * std::cos(k * angle);
  }
  return out;
}

Chebyshev FitLeastSquares(const Function& f, const Function& weight, double a, double b, int degree,
                          int points) {
  PV_CHECK(a < b && degree >= 0 && points > degree, "interval [{}, {}], degree {}, {} points", a, b,
           degree, points);
  const std::size_t n = static_cast<std::size_t>(degree) + 1;
  std::vector<double> matrix(n * n, 0.0), rhs(n, 0.0), t(n);
  for (int j = 0; j < points; ++j) {
    const double angle = std::numbers::pi * (j + 0.5) / points;
    const double x = FromUnit(a, b, std::cos(angle)), w = weight(x), value = f(x);
    for (std::size_t k = 0; k < n; ++k) t[k] = w * std::cos(static_cast<double>(k) * angle);
    for (std::size_t i = 0; i < n; ++i) {
      rhs[i] += t[i] * w * value;
      for (std::size_t k = 0; k <= i; ++k) matrix[i * n + k] += t[i] * t[k];
    }
  }
  return {a, b, SolveNormalEquations(std::move(matrix), std::move(rhs))};
}

double MaxError(const Chebyshev& p, const Function& f, const Function& weight, int points) {
  double worst = 0;
  for (int j = 0; j < points; ++j) {
    const double x = FromUnit(p.a, p.b, std::cos(std::numbers::pi * j / (points - 1)));
    worst = std::max(worst, std::abs(weight(x) * (p(x) - f(x))));
  }
  return worst;
}

int Depth(int degree) {
  int depth = 0;
  while ((1 << depth) < degree + 1) ++depth;
  return depth;
}

std::vector<double> ToMonomial(std::span<const double> coeffs) {
  std::vector<double> out(coeffs.size(), 0.0), previous{1.0}, current{0.0, 1.0};
  for (std::size_t k = 0; k < coeffs.size(); ++k) {
    const std::vector<double>& t = k == 0 ? previous : current;
    for (std::size_t i = 0; i < t.size(); ++i) out[i] += coeffs[k] * t[i];
    if (k == 0) continue;
    std::vector<double> next(current.size() + 1, 0.0);
    for (std::size_t i = 0; i < current.size(); ++i) next[i + 1] += 2 * current[i];
    for (std::size_t i = 0; i < previous.size(); ++i) next[i] -= previous[i];
    previous = std::exchange(current, std::move(next));
  }
  return out;
}

}  // namespace polyveil::approx
