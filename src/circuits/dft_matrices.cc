#include "circuits/dft_matrices.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace polyveil::circuits {
namespace {

// exp(2 pi i 5^j / (4 len)) for j < len / 2: the twiddles of the stage of length len.
std::vector<Complex> StageRoots(int len) {
  std::vector<Complex> roots(len / 2);
  unsigned power = 1;
  for (auto& root : roots) {
    const double angle = 2 * std::numbers::pi * power / (4.0 * len);
    root = Complex(std::cos(angle), std::sin(angle));
    power = power * 5u % (4u * len);
  }
  return roots;
}

// Stage D_len, or 2 D_len^-1. Low half of a block: x + w y, high half: x - w y.
DiagonalMatrix Stage(int log_period, int len, bool inverse) {
  const int period = 1 << log_period, half = len / 2;
  const auto roots = StageRoots(len);
  DiagonalMatrix stage{log_period, {}};
  auto diagonal = [&](int r) -> std::vector<Complex>& {
    auto& d = stage.diagonals[Centred(r, period)];
    d.resize(period);
    return d;
  };
  for (int j = 0; j < period; ++j) {
    const bool low = j % len < half;
    const Complex w = roots[j % half];
    if (low) {
      diagonal(0)[j] = 1;
      diagonal(half)[j] += inverse ? Complex(1) : w;
    } else {
      diagonal(0)[j] = inverse ? -std::conj(w) : -w;
      diagonal(-half)[j] += inverse ? std::conj(w) : Complex(1);
    }
  }
  return stage;
}

// Number of stages of each factor, the factor with the longest stage first. That one wraps around
// the period and has half as many diagonals as the others, so it takes a larger share.
std::vector<int> StagesPerFactor(int log_period, int levels) {
  std::vector<int> counts(levels, log_period / levels);
  for (int i = 0; i < log_period % levels; ++i) ++counts[i];
  return counts;
}

}  // namespace

std::vector<DiagonalMatrix> CoeffsToSlotsFactors(int log_period, int levels) {
  PV_CHECK(levels >= 1, "levels = {}", levels);
  std::vector<DiagonalMatrix> factors;
  int log_len = log_period;
  for (const int count : StagesPerFactor(log_period, levels)) {
    DiagonalMatrix factor = IdentityMatrix(log_period);
    for (int i = 0; i < count; ++i, --log_len)
      factor = Compose(Stage(log_period, 1 << log_len, true), factor);
    factors.push_back(std::move(factor));
  }
  return factors;
}

std::vector<DiagonalMatrix> SlotsToCoeffsFactors(int log_period, int levels) {
  PV_CHECK(levels >= 1, "levels = {}", levels);
  std::vector<DiagonalMatrix> factors;
  int log_len = log_period;
  for (const int count : StagesPerFactor(log_period, levels)) {
    DiagonalMatrix factor = IdentityMatrix(log_period);
    for (int i = 0; i < count; ++i, --log_len)
      factor = Compose(factor, Stage(log_period, 1 << log_len, false));
    factors.push_back(std::move(factor));
  }
  std::reverse(factors.begin(), factors.end());
  return factors;
}

}  // namespace polyveil::circuits
