#include "circuits/diagonal_matrix.h"

#include <algorithm>

#include "base/check.h"

namespace polyveil::circuits {
namespace {

// The representative of r in (-period/2, period/2].
}  // namespace

DiagonalMatrix IdentityMatrix(int log_period) {
  DiagonalMatrix result{log_period, {}};
  result.diagonals[0].assign(size_t{1} << log_period, Complex(1));
  return result;
}

DiagonalMatrix Compose(const DiagonalMatrix& a, const DiagonalMatrix& b) {
  PV_CHECK(a.log_period == b.log_period, "periods 2^{} and 2^{}", a.log_period, b.log_period);
  const int period = a.period();
  DiagonalMatrix result{a.log_period, {}};
  for (const auto& [ra, da] : a.diagonals) {
    for (const auto& [rb, db] : b.diagonals) {
      auto& out = result.diagonals[Centred(ra + rb, period)];
      out.resize(period);
      for (int j = 0; j < period; ++j) out[j] += da[j] * db[(j + ra) & (period - 1)];
    }
  }
  return result;
}

DiagonalMatrix ScaleRows(const DiagonalMatrix& matrix, std::span<const Complex> factors) {
  const size_t period = std::max<size_t>(matrix.period(), factors.size());
  DiagonalMatrix result;
  while ((size_t{1} << result.log_period) < period) ++result.log_period;
  for (const auto& [r, diagonal] : matrix.diagonals) {
    auto& out = result.diagonals[r];
    out.resize(period);
    for (size_t j = 0; j < period; ++j)
      out[j] = diagonal[j % diagonal.size()] * factors[j % factors.size()];
  }
  return result;
}

std::vector<Complex> ApplyPlain(const DiagonalMatrix& matrix, std::span<const Complex> x) {
  const int period = matrix.period();
  std::vector<Complex> y(period);
  for (const auto& [r, diagonal] : matrix.diagonals) {
    for (int j = 0; j < period; ++j) y[j] += diagonal[j] * x[(j + r) & (x.size() - 1)];
  }
  return y;
}

size_t SmallestPeriod(std::span<const Complex> values) {
  size_t period = values.size();
  while (period > 1 &&
         std::equal(values.begin(), values.begin() + period / 2, values.begin() + period / 2)) {
    period /= 2;
  }
  return period;
}

}  // namespace polyveil::circuits
