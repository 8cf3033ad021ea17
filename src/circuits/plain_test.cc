// The mathematics of the circuits on plain numbers: Fourier factors, Chebyshev plans, the cosine of
// EvalMod.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>

#include "circuits/chebyshev_plan.h"
#include "circuits/cosine_fit.h"
#include "circuits/dft_matrices.h"

namespace polyveil::circuits {
namespace {

std::vector<Complex> RandomVector(size_t n, unsigned seed) {
  std::mt19937_64 rng(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<Complex> v(n);
  for (auto& x : v) x = Complex(uniform(rng), uniform(rng));
  return v;
}

double MaxDistance(std::span<const Complex> a, std::span<const Complex> b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

std::vector<Complex> ApplyAll(const std::vector<DiagonalMatrix>& factors, std::vector<Complex> x) {
  for (const auto& factor : factors) x = ApplyPlain(factor, x);
  return x;
}

size_t BitReverse(size_t i, int bits) {
  size_t r = 0;
  for (int b = 0; b < bits; ++b) r |= ((i >> b) & 1) << (bits - 1 - b);
  return r;
}

TEST(DftMatrices, SlotsToCoeffsIsTheEmbeddingOfBitReversedCoefficients) {
  for (const int log_period : {0, 1, 2, 5, 7}) {
    for (const int levels : {1, 2, 3}) {
      const size_t n = size_t{1} << log_period;
      const auto z = RandomVector(n, 1);
      const auto slots = ApplyAll(SlotsToCoeffsFactors(log_period, levels), z);
      std::vector<Complex> expected(n);
      size_t power = 1;  // 5^j mod 4n
      for (size_t j = 0; j < n; ++j, power = power * 5 % (4 * n)) {
        for (size_t k = 0; k < n; ++k) {
          const double angle = 2 * std::numbers::pi * double(power * k % (4 * n)) / double(4 * n);
          expected[j] += z[BitReverse(k, log_period)] * std::polar(1.0, angle);
        }
      }
      EXPECT_LT(MaxDistance(slots, expected), 1e-12 * double(n)) << log_period << " " << levels;
    }
  }
}

TEST(DftMatrices, CoeffsToSlotsInvertsUpToThePeriod) {
  for (const int log_period : {0, 1, 3, 7, 10}) {
    for (const int levels : {1, 2, 3}) {
      const size_t n = size_t{1} << log_period;
      auto z = RandomVector(n, 2);
      const auto back = ApplyAll(CoeffsToSlotsFactors(log_period, levels),
                                 ApplyAll(SlotsToCoeffsFactors(log_period, levels), z));
      for (auto& x : z) x *= double(n);
      EXPECT_LT(MaxDistance(back, z), 1e-12 * double(n)) << log_period << " " << levels;
    }
  }
}

TEST(DftMatrices, FactorsAreSparseAndPeriodic) {
  const auto factors = CoeffsToSlotsFactors(10, 2);
  EXPECT_EQ(factors[0].diagonals.size(), 32u);  // wraps around the period
  EXPECT_EQ(factors[1].diagonals.size(), 63u);
  for (const auto& [r, diagonal] : factors[1].diagonals) EXPECT_LE(SmallestPeriod(diagonal), 32u);
}

TEST(ChebyshevPlan, MatchesClenshawAtEveryDegree) {
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int degree = 1; degree <= 63; ++degree) {
    for (int parity = 0; parity < 3; ++parity) {  // all, even, odd
      std::vector<double> c(degree + 1);
      for (int k = 0; k <= degree; ++k)
        c[k] = parity == 0 || k % 2 == parity - 1 ? uniform(rng) : 0;
      const auto plan = PlanChebyshev(c);
      for (double u = -1; u <= 1; u += 0.1) {
        double expected = 0;
        for (int k = 0; k <= degree; ++k)
          expected += c[k] * std::cos(k * std::acos(std::clamp(u, -1.0, 1.0)));
        EXPECT_NEAR(EvaluatePlan(plan, u), expected, 1e-10) << degree << " " << parity;
      }
    }
  }
}

void CheckDepths(const ChebyshevNode& node) {
  for (const auto& [k, coefficient] : node.terms) EXPECT_LE(ChebyshevDepth(k - 1), node.depth);
  for (const auto& product : node.products) {
    EXPECT_LE(ChebyshevDepth(product.giant - 1), node.depth);
    EXPECT_EQ(product.quotient.depth, node.depth - 1);
    CheckDepths(product.quotient);
  }
}

TEST(ChebyshevPlan, DepthIsOptimalAndCostIsSmall) {
  for (int degree = 1; degree <= 63; ++degree) {
    const std::vector<double> c(degree + 1, 1.0);
    const auto plan = PlanChebyshev(c);
    EXPECT_EQ(plan.root.depth + 1, int(std::ceil(std::log2(degree + 1)))) << degree;
    CheckDepths(plan.root);
    EXPECT_LE(plan.relinearizations, 2 * std::sqrt(degree) + std::log2(degree) + 2) << degree;
  }
  EXPECT_EQ(PlanChebyshev(FitCosine({}).coeffs).relinearizations, 7);
}

// |x| <= 1 is the unit of the message, 2^10 / (2 pi) the gain of EvalMod: the bound on its
// polynomial's share.
TEST(CosineFit, DenseScanStaysWithinBounds) {
  const CosineFitSpec spec;
  const CosineFit fit = FitCosine(spec);
  for (int integer = -16; integer <= 16; ++integer) {
    double worst = 0;
    for (double t = -1; t <= 1; t += 0x1p-9) {
      const double epsilon = t * spec.epsilon;
      const double exact = std::sin(2 * std::numbers::pi * epsilon);
      worst = std::max(worst, std::fabs(EvaluateSine(fit, integer + epsilon) - exact));
    }
    const double message_error = worst * 1024 / (2 * std::numbers::pi);
    EXPECT_LT(message_error, std::abs(integer) <= 12 ? 0x1p-19 : 0x1p-13) << integer;
  }
}

}  // namespace
}  // namespace polyveil::circuits
