#include <gtest/gtest.h>

#include <cmath>

#include "approx/chebyshev.h"
#include "approx/goldschmidt.h"
#include "approx/range.h"
#include "approx/remez.h"

namespace polyveil::approx {
namespace {

double One(double) { return 1; }

TEST(Chebyshev, EvaluatesKnownPolynomials) {
  const Chebyshev t3{-1, 1, {0, 0, 0, 1}};
  for (const double u : {-1.3, -0.5, 0.0, 0.25, 1.0})
    EXPECT_NEAR(t3(u), 4 * u * u * u - 3 * u, 1e-14);
  const Chebyshev shifted{2, 6, {1, 2}};  // 1 + 2 (x - 4) / 2
  EXPECT_DOUBLE_EQ(shifted(5), 2);
  EXPECT_DOUBLE_EQ(shifted.Derivative(3), 1);
}

TEST(Chebyshev, DerivativeMatchesDifferences) {
  const Chebyshev p{0.5, 3, {0.3, -1, 0.25, 0.7, -0.2}};
  for (const double x : {0.4, 1.0, 2.9})
    EXPECT_NEAR(p.Derivative(x), (p(x + 1e-6) - p(x - 1e-6)) / 2e-6, 1e-8);
}

TEST(Chebyshev, InterpolationReproducesPolynomialsAndExp) {
  const auto cubic = [](double x) { return x * x * x - 2 * x + 1; };
  EXPECT_LT(MaxError(Interpolate(cubic, -2, 5, 3), cubic, One), 1e-12);
  const auto exp = [](double x) { return std::exp(x); };
  // Coefficients of e^x on [-1, 1] are Bessel's 2 I_k(1); I_0(1) = 1.26606587775201.
  EXPECT_NEAR(Interpolate(exp, -1, 1, 20).coeffs[0], 1.26606587775201, 1e-13);
}

TEST(Chebyshev, LeastSquaresTendsToTheWeightedBest) {
  const auto f = [](double x) { return 1 / x; };
  const auto relative = [](double x) { return x; };
  const Chebyshev fit = FitLeastSquares(f, relative, 1, 8, 7, 200);
  EXPECT_LT(MaxError(fit, f, relative), 3 * InverseMinimaxError(1, 8, 7));
}

TEST(Chebyshev, ConvertsToMonomials) {
  const std::vector<double> c = {1, 2, 3, 4};
  EXPECT_EQ(ToMonomial(c), (std::vector<double>{-2, -10, 6, 16}));
}

TEST(Chebyshev, DepthOfADegree) {
  EXPECT_EQ(Depth(1), 1);
  EXPECT_EQ(Depth(7), 3);
  EXPECT_EQ(Depth(8), 4);
  EXPECT_EQ(Depth(15), 4);
}

TEST(Chebyshev, ValidateNamesTheField) {
  EXPECT_TRUE(Validate({0, 1, {1}}, "p").ok());
  for (const Chebyshev& bad : {Chebyshev{1, 1, {1}}, Chebyshev{0, 1, {}}, Chebyshev{0, 1, {NAN}}}) {
    const auto status = Validate(bad, "layers[3].norm1");
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("layers[3].norm1"), std::string::npos);
  }
}

TEST(Remez, AbsoluteMinimaxOfAPowerIsChebyshevs) {
  // x^4 less its best cubic is T_4 / 8: error 1/8.
  const auto fit = Minimax([](double x) { return x * x * x * x; }, One, -1, 1, 3).value();
  EXPECT_NEAR(fit.error, 0.125, 1e-6);
}

TEST(Remez, InverseReachesTheAnalyticMinimax) {
  for (const double b : {2.0, 8.0, 32.0, 100.0})
    for (const int degree : {1, 3, 7, 15, 22}) {
      const auto fit = MinimaxInverse(1, b, degree).value();
      const double expected = InverseMinimaxError(1, b, degree);
      // 1e-14: rounding of the fit itself, which shows where the true error is as small.
      EXPECT_NEAR(fit.error, expected, 1e-4 * expected + 1e-14) << b << " " << degree;
      EXPECT_LE(MaxError(
                    fit.series, [](double x) { return 1 / x; }, [](double x) { return x; }, 20001),
                1.0001 * expected + 1e-14);
    }
}

TEST(Remez, DegreesOfTheDesignNote) {
  // One Chebyshev degree to 1e-3 in 1/x: 11 at a range of 8, 22 at 32, 38 at 100.
  EXPECT_LE(InverseMinimaxError(1, 8, 11), 1e-3);
  EXPECT_LE(InverseMinimaxError(1, 32, 22), 1e-3);
  EXPECT_LE(InverseMinimaxError(1, 100, 38), 1e-3);
  EXPECT_GT(InverseMinimaxError(1, 8, 9), 1e-3);
}

TEST(Remez, InverseSqrtBeatsInterpolation) {
  const auto f = [](double x) { return 1 / std::sqrt(x); };
  const auto relative = [](double x) { return std::sqrt(x); };
  const auto fit = MinimaxInverseSqrt(0.25, 4, 7).value();
  EXPECT_LE(fit.error, MaxError(Interpolate(f, 0.25, 4, 7), f, relative));
  EXPECT_LT(fit.error, 0.01);
}

TEST(Remez, RefusesBadIntervals) {
  EXPECT_FALSE(MinimaxInverse(0, 1, 3).ok());
  EXPECT_FALSE(MinimaxInverse(2, 1, 3).ok());
  EXPECT_FALSE(Minimax([](double x) { return x; }, One, 0, 1, -1).ok());
}

TEST(Goldschmidt, StepsOfTheDesignNote) {
  EXPECT_EQ(GoldschmidtSteps(1, 8, 1e-3), 4);
  EXPECT_EQ(GoldschmidtSteps(1, 32, 1e-3), 5);
  EXPECT_EQ(GoldschmidtSteps(1, 100, 1e-3), 7);
}

TEST(Goldschmidt, StartIsEquioscillatingAndErrorsSquare) {
  const LinearStart start = InverseLinearStart(0.5, 6);
  const auto error = [&](double x) { return 1 - x * (start.slope * x + start.offset); };
  EXPECT_NEAR(error(0.5), start.error, 1e-14);
  EXPECT_NEAR(error(3.25), -start.error, 1e-14);
  EXPECT_NEAR(error(6), start.error, 1e-14);
  EXPECT_NEAR(0.5 * GoldschmidtInverse(0.5, 0.5, 6, 2), 1 - std::pow(start.error, 4), 1e-12);
}

TEST(Range, NothingLosesANan) {
  for (const double bad : {double{NAN}, double{INFINITY}}) {
    Range first;
    first.Add(bad);
    first.Add(1);
    Range last;
    last.Add(1);
    last.Add(bad);
    for (const Range& range : {first, last}) {
      EXPECT_FALSE(range.finite());
      EXPECT_EQ(RatioMargin(range, -9, 9), 0);
      EXPECT_EQ(RatioMargin(range, 0.1, 9), 0);
    }
    EXPECT_EQ(EscapeRatio(bad, -9, 9), INFINITY);
    EXPECT_EQ(EscapeRatio(bad, 0.1, 9), INFINITY);
  }
}

TEST(Range, MergesAndStretches) {
  Range range;
  for (const double x : {2.0, 0.5, 1.0}) range.Add(x);
  EXPECT_EQ(range.lo, 0.5);
  EXPECT_EQ(range.count, 3u);
  EXPECT_DOUBLE_EQ(range.ratio(), 4);
  const Range wide = WithRatioMargin(range, 1.25);
  EXPECT_DOUBLE_EQ(wide.lo, 0.4);
  EXPECT_DOUBLE_EQ(wide.hi, 2.5);
  EXPECT_DOUBLE_EQ(EscapeRatio(3, wide.lo, wide.hi), 1.2);
  EXPECT_DOUBLE_EQ(EscapeRatio(0.2, wide.lo, wide.hi), 2);
  EXPECT_EQ(EscapeRatio(1, wide.lo, wide.hi), 1);
  EXPECT_DOUBLE_EQ(EscapeRatio(-6, -4, 4), 1.5);
  EXPECT_DOUBLE_EQ(RatioMargin({0.5, 2, 1}, 0.25, 3), 1.5);
  EXPECT_DOUBLE_EQ(RatioMargin({0.2, 2, 1}, 0.25, 3), 0.8);
  EXPECT_DOUBLE_EQ(RatioMargin({0, 2, 1}, 0, 3), 1.5);
  EXPECT_EQ(RatioMargin({-1e-9, 2, 1}, 0, 3), 0);
  EXPECT_DOUBLE_EQ(RatioMargin({-2, 1, 1}, -4, 4), 2);
  EXPECT_DOUBLE_EQ(RatioMargin({1, 5, 1}, -4, 4), 0.8);
  EXPECT_EQ(RatioMargin({-1, 1, 1}, 0.25, 3), 0);
}

}  // namespace
}  // namespace polyveil::approx
