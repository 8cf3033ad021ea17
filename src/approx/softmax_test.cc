#include "approx/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace polyveil::approx {
namespace {

std::vector<double> RandomScores(int count, double lo, double hi, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform(lo, hi);
  std::vector<double> z(static_cast<std::size_t>(count));
  for (double& value : z) value = uniform(random);
  return z;
}

TEST(Softmax, ExponentialKeepsItsError) {
  for (const double bound : {1.0, 8.0, 20.0}) {
    const ExponentialFit fit = FitExponential(-bound, bound, 0.01).value();
    for (double z = -bound; z <= bound; z += bound / 50) {
      double e = fit.series(z);
      for (int i = 0; i < fit.squarings; ++i) e *= e;
      EXPECT_NEAR(e / std::exp(z), 1, 0.01 + 1e-9) << z;
    }
  }
}

TEST(Softmax, NormaliseSquareEndsAtSoftmax) {
  std::mt19937_64 random(5);
  const int keys = 32;
  const NormaliseSquareFit fit = FitNormaliseSquare(-10, 6, keys, 0.05).value();
  EXPECT_EQ(static_cast<int>(fit.rounds.size()), fit.exponential.squarings);
  for (int trial = 0; trial < 20; ++trial) {
    const std::vector<double> z = RandomScores(keys, -10, 6, random);
    std::vector<double> w;
    double sum = 0;
    for (const double value : z) {
      w.push_back(fit.exponential.series(value) / keys);
      sum += std::exp(value);
    }
    for (const Candidate& round : fit.rounds) {
      const double m = keys * std::inner_product(w.begin(), w.end(), w.begin(), 0.0);
      EXPECT_TRUE(round.polynomial.Contains(m)) << m;
      for (double& value : w) value = keys * std::pow(value * round.polynomial(m), 2);
    }
    for (int k = 0; k < keys; ++k)
      EXPECT_NEAR(w[static_cast<std::size_t>(k)], std::exp(z[static_cast<std::size_t>(k)]) / sum,
                  0.06 * std::exp(z[static_cast<std::size_t>(k)]) / sum);
  }
}

TEST(Softmax, RefusesTheImpossible) { EXPECT_FALSE(FitExponential(-1e7, 1e7, 1e-9).ok()); }

}  // namespace
}  // namespace polyveil::approx
