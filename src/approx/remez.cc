#include "approx/remez.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polyveil::approx {
namespace {

constexpr int kMaxExchanges = 100;
constexpr double kLevelled = 1e-6;  // largest error over the levelled one, less 1

// Gaussian elimination with partial pivoting; false when the matrix is singular.
bool Solve(std::vector<std::vector<double>>& rows) {
  const std::size_t n = rows.size();
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c + 1; r < n; ++r)
      if (std::abs(rows[r][c]) > std::abs(rows[pivot][c])) pivot = r;
    if (rows[pivot][c] == 0) return false;
    std::swap(rows[c], rows[pivot]);
    for (std::size_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double factor = rows[r][c] / rows[c][c];
      for (std::size_t k = c; k <= n; ++k) rows[r][k] -= factor * rows[c][k];
    }
  }
  for (std::size_t r = 0; r < n; ++r) rows[r][n] /= rows[r][r];
  return true;
}

class Exchange {
 public:
  Exchange(const Function& f, const Function& weight, double a, double b, int degree)
      : f_(f), weight_(weight), fit_{{a, b, std::vector<double>(degree + 1)}, 0, 0} {
    const int points = std::max(2000, 200 * (degree + 2));
    for (int j = 0; j <= points; ++j)
      grid_.push_back(0.5 * ((a + b) - (b - a) * std::cos(std::numbers::pi * j / points)));
    for (int i = 0; i <= degree + 1; ++i)
      reference_.push_back(0.5 *
                           ((a + b) - (b - a) * std::cos(std::numbers::pi * i / (degree + 1))));
  }

  Result<MinimaxFit> Run() {
    for (fit_.iterations = 1; fit_.iterations <= kMaxExchanges; ++fit_.iterations) {
      if (!Level()) return MakeError(ErrorCode::kOutOfRange, "Remez: singular reference");
      const std::vector<double> extrema = Extrema();
      if (fit_.error <= std::abs(level_) * (1 + kLevelled) + 1e-15) return fit_;
      if (extrema.size() < reference_.size()) break;
      reference_ = Best(extrema);
    }
    return MakeError(ErrorCode::kOutOfRange,
                     "Remez on [{}, {}], degree {}: error {} against the levelled {}",
                     fit_.series.a, fit_.series.b, fit_.series.degree(), fit_.error, level_);
  }

 private:
  double Error(double x) const { return weight_(x) * (fit_.series(x) - f_(x)); }

  // The polynomial whose weighted error is +-level on the reference.
  bool Level() {
    const std::size_t n = reference_.size();
    std::vector<std::vector<double>> rows(n, std::vector<double>(n + 1));
    for (std::size_t i = 0; i < n; ++i) {
      const double x = reference_[i];
      const double angle = std::acos(std::clamp(fit_.series.ToUnit(x), -1.0, 1.0));
      for (std::size_t k = 0; k + 1 < n; ++k) rows[i][k] = std::cos(static_cast<double>(k) * angle);
      rows[i][n - 1] = (i % 2 ? -1.0 : 1.0) / weight_(x);
      rows[i][n] = f_(x);
    }
    if (!Solve(rows)) return false;
    for (std::size_t k = 0; k + 1 < n; ++k) fit_.series.coeffs[k] = rows[k][n];
    level_ = rows[n - 1][n];
    return true;
  }

  // The largest error of each run of equal signs on the grid, in order.
  std::vector<double> Extrema() {
    std::vector<double> out;
    double best = 0;
    fit_.error = 0;
    for (const double x : grid_) {
      const double e = Error(x);
      fit_.error = std::max(fit_.error, std::abs(e));
      if (out.empty() || (e > 0) != (best > 0)) {
        out.push_back(x);
        best = e;
      } else if (std::abs(e) > std::abs(best)) {
        out.back() = x;
        best = e;
      }
    }
    return out;
  }

  // As many neighbours as the reference needs: drop the smaller end until they fit.
  std::vector<double> Best(std::vector<double> extrema) const {
    while (extrema.size() > reference_.size()) {
      if (std::abs(Error(extrema.front())) < std::abs(Error(extrema.back())))
        extrema.erase(extrema.begin());
      else
        extrema.pop_back();
    }
    return extrema;
  }

  const Function& f_;
  const Function& weight_;
  MinimaxFit fit_;
  double level_ = 0;
  std::vector<double> grid_, reference_;
};

}  // namespace

Result<MinimaxFit> Minimax(const Function& f, const Function& weight, double a, double b,
                           int degree) {
  if (!(a < b) || !std::isfinite(a) || !std::isfinite(b) || degree < 0 || degree > 200)
    return MakeError(ErrorCode::kInvalidArgument, "Remez: interval [{}, {}], degree {}", a, b,
                     degree);
  return Exchange(f, weight, a, b, degree).Run();
}

Result<MinimaxFit> MinimaxInverse(double a, double b, int degree) {
  if (!(a > 0)) return MakeError(ErrorCode::kInvalidArgument, "1/x on [{}, {}]", a, b);
  return Minimax([](double x) { return 1 / x; }, [](double x) { return x; }, a, b, degree);
}

Result<MinimaxFit> MinimaxInverseSqrt(double a, double b, int degree) {
  if (!(a > 0)) return MakeError(ErrorCode::kInvalidArgument, "1/sqrt(x) on [{}, {}]", a, b);
  return Minimax([](double x) { return 1 / std::sqrt(x); }, [](double x) { return std::sqrt(x); },
                 a, b, degree);
}

double InverseMinimaxError(double a, double b, int degree) {
  return 1 / std::cosh((degree + 1) * std::acosh((b + a) / (b - a)));
}

}  // namespace polyveil::approx
