#include "circuits/cosine_fit.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polyveil::circuits {
namespace {

using Real = long double;
constexpr Real kPi = std::numbers::pi_v<Real>;
constexpr int kSamplesPerInterval = 9;
constexpr int kLawsonSteps = 60;

struct Samples {
  std::vector<Real> u, value, weight;
  size_t size() const { return u.size(); }
};

// The weight is the derivative of the double angles: |T_m'(cos t)| = m / |sin t| where the sine is
// extreme.
Samples MakeSamples(const CosineFitSpec& spec, Real half_width) {
  Samples samples;
  const Real m = std::ldexp(Real(1), spec.double_angles);
  for (int integer = -spec.integer_bound; integer <= spec.integer_bound; ++integer) {
    const int excess = std::max(0, std::abs(integer) - spec.core);
    for (int s = 0; s < kSamplesPerInterval; ++s) {
      const Real offset = Real(2 * s - kSamplesPerInterval + 1) / (kSamplesPerInterval - 1);
      const Real x = integer - Real(0.25) + offset * spec.epsilon;
      const Real angle = 2 * kPi * x / m;
      samples.u.push_back(x / half_width);
      samples.value.push_back(2 * std::cos(angle));
      samples.weight.push_back(m / std::fabs(std::sin(angle)) *
                               std::exp2(-Real(spec.relaxation) * excess));
    }
  }
  return samples;
}

// Even Chebyshev basis at every sample: columns T_0, T_2, ..., T_degree.
std::vector<std::vector<Real>> Basis(const Samples& samples, int degree) {
  std::vector<std::vector<Real>> columns(degree / 2 + 1);
  for (size_t k = 0; k < columns.size(); ++k) {
    for (const Real u : samples.u) columns[k].push_back(std::cos(2 * k * std::acos(u)));
  }
  return columns;
}

Real Dot(const std::vector<Real>& a, const std::vector<Real>& b) {
  Real sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Minimises |sum_k c_k columns[k] - value| by modified Gram-Schmidt, orthogonalising twice.
std::vector<Real> LeastSquares(std::vector<std::vector<Real>> columns, std::vector<Real> value) {
  const size_t n = columns.size();
  columns.push_back(std::move(value));
  std::vector<std::vector<Real>> r(n, std::vector<Real>(n + 1, 0));
  for (size_t k = 0; k < n; ++k) {
    r[k][k] = std::sqrt(Dot(columns[k], columns[k]));
    for (Real& v : columns[k]) v /= r[k][k];
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t j = k + 1; j <= n; ++j) {
        const Real projection = Dot(columns[k], columns[j]);
        r[k][j] += projection;
        for (size_t i = 0; i < columns[k].size(); ++i) columns[j][i] -= projection * columns[k][i];
      }
    }
  }
  std::vector<Real> solution(n);
  for (size_t k = n; k-- > 0;) {
    Real sum = r[k][n];
    for (size_t j = k + 1; j < n; ++j) sum -= r[k][j] * solution[j];
    solution[k] = sum / r[k][k];
  }
  return solution;
}

std::vector<Real> WeightedFit(const Samples& samples, const std::vector<std::vector<Real>>& basis,
                              const std::vector<Real>& lawson) {
  auto columns = basis;
  auto value = samples.value;
  for (size_t i = 0; i < samples.size(); ++i) {
    const Real weight = samples.weight[i] * std::sqrt(lawson[i]);
    for (auto& column : columns) column[i] *= weight;
    value[i] *= weight;
  }
  return LeastSquares(std::move(columns), std::move(value));
}

// Weighted residual of every sample.
std::vector<Real> Residuals(const Samples& samples, const std::vector<std::vector<Real>>& basis,
                            const std::vector<Real>& solution) {
  std::vector<Real> residuals(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    Real sum = -samples.value[i];
    for (size_t k = 0; k < basis.size(); ++k) sum += solution[k] * basis[k][i];
    residuals[i] = std::fabs(sum) * samples.weight[i];
  }
  return residuals;
}

}  // namespace

CosineFit FitCosine(const CosineFitSpec& spec) {
  CosineFit fit{spec.degree, spec.double_angles, spec.integer_bound + 0.25 + 2 * spec.epsilon, {}};
  const Samples samples = MakeSamples(spec, fit.half_width);
  const auto basis = Basis(samples, spec.degree);
  // Lawson 1961: weights multiplied by the residuals lead from least squares to the minimax fit.
  std::vector<Real> lawson(samples.size(), 1), best;
  Real best_error = INFINITY;
  for (int step = 0; step < kLawsonSteps; ++step) {
    const auto solution = WeightedFit(samples, basis, lawson);
    const auto residuals = Residuals(samples, basis, solution);
    const Real error = *std::max_element(residuals.begin(), residuals.end());
    if (error < best_error) best_error = error, best = solution;
    Real sum = 0;
    for (size_t i = 0; i < lawson.size(); ++i) sum += lawson[i] *= residuals[i];
    for (Real& weight : lawson) weight /= sum;
  }
  fit.coeffs.assign(spec.degree + 1, 0.0);
  for (size_t k = 0; k < best.size(); ++k) fit.coeffs[2 * k] = static_cast<double>(best[k]);
  return fit;
}

double EvaluateSine(const CosineFit& fit, double x) {
  const double angle = std::acos((x - 0.25) / fit.half_width);
  double y = 0;
  for (size_t k = 0; k < fit.coeffs.size(); k += 2) y += fit.coeffs[k] * std::cos(k * angle);
  for (int i = 0; i < fit.double_angles; ++i) y = y * y - 2;
  return y / 2;
}

}  // namespace polyveil::circuits
