#include "approx/choose.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "approx/goldschmidt.h"
#include "approx/remez.h"

namespace polyveil::approx {
namespace {

TEST(Approximant, SeriesEqualsChebyshev) {
  const Chebyshev series{0.5, 4, {1, -0.5, 0.25, -0.1}};
  const Approximant p(series);
  for (const double x : {0.3, 0.5, 1.7, 4.0, 5.0}) {
    EXPECT_NEAR(p(x), series(x), 1e-13);
    EXPECT_NEAR(p.Derivative(x), series.Derivative(x), 1e-12);
  }
}

TEST(Approximant, GoldschmidtEqualsTheIteration) {
  const LinearStart start = InverseLinearStart(0.5, 6);
  Approximant p(Interpolate([&](double x) { return start.slope * x + start.offset; }, 0.5, 6, 1));
  p.refinement = Refinement::kGoldschmidt;
  p.steps = 3;
  for (const double x : {0.4, 0.5, 2.0, 6.0})
    EXPECT_NEAR(p(x), GoldschmidtInverse(x, 0.5, 6, 3), 1e-12);
  EXPECT_EQ(p.LevelDepth(), 1 + GoldschmidtDepth(3));
}

// Newton's step is Goldschmidt's in exact arithmetic: the residue squares.
TEST(Approximant, NewtonSquaresTheResidue) {
  Approximant p(MinimaxInverse(1, 8, 3).value().series);
  const double before = 1 - 1.5 * p(1.5);
  p.refinement = Refinement::kNewton;
  p.steps = 2;
  EXPECT_NEAR(1 - 1.5 * p(1.5), std::pow(before, 4), 1e-13);
}

TEST(Approximant, DerivativesMatchDifferences) {
  for (const Target target : {Target::kInverse, Target::kInverseRoot})
    for (const Candidate& c : Candidates(target, 0.2, 6, 1e-3, {1e-3, 16}))
      for (const double x : {0.21, 1.0, 5.5})
        EXPECT_NEAR(c.polynomial.Derivative(x),
                    (c.polynomial(x + 1e-6) - c.polynomial(x - 1e-6)) / 2e-6, 1e-5)
            << c.method;
}

TEST(Choose, EveryFamilyKeepsTheBudget) {
  for (const Target target : {Target::kInverse, Target::kInverseRoot})
    for (const double b : {2.0, 30.0, 1000.0}) {
      std::set<std::string> methods;
      for (const Candidate& c : Candidates(target, 1, b, 1e-3, {0.01, 16})) {
        EXPECT_LE(c.error, 0.01) << c.method;
        EXPECT_EQ(c.depth, c.polynomial.LevelDepth());
        EXPECT_TRUE(Validate(c.polynomial, c.method).ok());
        methods.insert(c.method);
      }
      EXPECT_TRUE(methods.count("remez") && methods.count("newton")) << b;
      EXPECT_EQ(methods.count("goldschmidt"), target == Target::kInverse ? 1u : 0u);
    }
}

// A minimax series has the lowest degree, hence the fewest levels, for an error.
TEST(Choose, SeriesIsShallowest) {
  const Budget budget{0.01, 16};
  const auto candidates = Candidates(Target::kInverse, 1, 30, 0, budget);
  const Candidate best = Choose(candidates, 1, 30, budget).value();
  EXPECT_EQ(best.depth, Depth(15));
  for (const Candidate& c : candidates) EXPECT_LE(best.depth, c.depth) << c.method;
  EXPECT_LE(InverseMinimaxError(1, 30, 15), 0.01);
  EXPECT_GT(InverseMinimaxError(1, 30, 7), 0.01);
}

// Where no series of a bundle's degree reaches, the iterations still do.
TEST(Choose, FallsBackToStepsOnHugeRanges) {
  const Budget budget{1e-3, 24};
  const Candidate best =
      Choose(Candidates(Target::kInverse, 1, 1e4, 0, budget), 1, 1e4, budget).value();
  EXPECT_NE(best.method, "remez");
  EXPECT_LE(best.error, 1e-3);
}

TEST(Choose, RefusesWhatDoesNotFit) {
  const Budget budget{1e-6, 2};
  const auto none = Choose(Candidates(Target::kInverse, 1, 100, 0, budget), 1, 100, budget);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("100"), std::string::npos);
}

TEST(Approximant, ValidateRefusesBadRefinements) {
  Approximant p(MinimaxInverse(1, 8, 3).value().series);
  p.refinement = Refinement::kGoldschmidt;
  p.order = 0.5;
  EXPECT_FALSE(Validate(p, "x").ok());
  p.order = 1;
  p.steps = 65;
  EXPECT_FALSE(Validate(p, "x").ok());
  p.refinement = Refinement::kComposite;
  p.steps = 0;
  EXPECT_FALSE(Validate(p, "x").ok());  // no correction
}

}  // namespace
}  // namespace polyveil::approx
