// Units of polynomials' arguments: which are free, and what is done about those that are not.
#include "compile/graph_builder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compile/approximant_lowering.h"
#include "compile/levels.h"
#include "compile/units.h"

namespace polyveil::compile {
namespace {

TEST(ArgumentUnits, IntegerPartIsAtMostTwoPerCentAbove) {
  for (double factor = 0.01; factor < 300; factor *= 1.003) {
    const double integer = static_cast<double>(IntegerPart(factor));
    EXPECT_GE(integer, 1);
    EXPECT_LE(integer, std::max(1.0, 1.02 * factor)) << factor;
    EXPECT_GT(integer + 1, factor) << factor;
  }
  for (const double none : {1e60, -1e60, HUGE_VAL, std::nan("")})
    EXPECT_EQ(IntegerPart(none), 1) << none;
}

TEST(ArgumentUnits, FreeFactorIsTheLeastThatKeepsPrecisionAndConstants) {
  for (const int degree : {1, 7, 31, 63, 127}) {
    for (double factor = 0.01; factor < 300; factor *= 1.01) {
      const double free = FreeFactor(factor, degree);
      EXPECT_GE(free, factor);
      EXPECT_LE(free, std::max(1.0, std::ceil(factor))) << factor << ", degree " << degree;
      EXPECT_EQ(FreeFactor(free, degree), free);
    }
  }
  EXPECT_EQ(FreeFactor(2.4, 7), 2.4);            // 1.2^7: two bits
  EXPECT_EQ(FreeFactor(2.4, 127), 3);            // 1.2^127: 33 bits
  EXPECT_EQ(FreeFactor(0.5, 7), 0.5);            // 0.5^7: seven bits of precision
  EXPECT_NEAR(FreeFactor(0.3, 7), 0.43, 0.01);   // 0.3^7: twelve
  EXPECT_NEAR(FreeFactor(0.5, 63), 0.96, 0.01);  // 0.5^63
  EXPECT_EQ(FreeFactor(1.99, 127), 1.99);        // 0.995^127: one bit
}

TEST(ArgumentUnits, OnlyAnUnfreeArgumentCostsALevel) {
  for (const double factor : {2.0, 2.6}) {
    GraphBuilder b(9);
    const NodeId x = b.Input("x", 4);
    const NodeId y = b.Polynomial("p", x, factor, 0, std::vector<double>(64, 0.01));
    int depth = 0;
    for (NodeId id = y; id != x; id = b.graph()[id].inputs[0]) depth += Depth(b.graph()[id]);
    EXPECT_EQ(depth, factor == 2.0 ? 6 : 7) << factor;
  }
}

// No rotation, no key.
TEST(Linear, AMapOfOneTermIsAProductWithAConstant) {
  GraphBuilder b(2);
  const NodeId x = b.Input("x", 1);
  const NodeId y = b.Linear("map", x, {1, 1}, true);
  const Node& node = b.graph()[y];
  EXPECT_EQ(node.kind, OpKind::kMulPlain);
  EXPECT_TRUE(node.real);
  EXPECT_EQ(node.log_period, 2);
  EXPECT_EQ(b.graph()[b.Linear("map", x, {2, 1}, true)].kind, OpKind::kLinear);
}

// An encoded constant times its scale must stay below 2^62.
TEST(Constants, ALargeFactorIsAWholeNumberAndTheRest) {
  GraphBuilder b(2);
  const NodeId x = b.Input("x", 1);
  EXPECT_EQ(b.graph()[b.MulPlain("small", x, {Complex(-65536)})].inputs, std::vector{x});
  const NodeId y = b.MulPlain("large", x, {Complex(-3e6 - 0.25)});
  const Node &rest = b.graph()[y], &whole = b.graph()[rest.inputs[0]];
  EXPECT_EQ(rest.kind, OpKind::kMulPlain);
  EXPECT_EQ(whole.kind, OpKind::kRescaleUnit);
  EXPECT_EQ(whole.factor, 3000001);
  EXPECT_DOUBLE_EQ(whole.factor * rest.constant[0].real(), -3e6 - 0.25);
  EXPECT_EQ(whole.inputs, std::vector{x});
}

TEST(ArgumentUnits, UnitForNormIsTheLeastFreeOne) {
  approx::Approximant norm;
  norm.a = 0.1, norm.b = 10;
  for (const int degree : {7, 63}) {
    norm.coeffs.assign(static_cast<std::size_t>(degree) + 1, 0.01);
    for (double unit = 1; unit < 300; unit *= 1.1) {
      const double free = UnitForNorm(unit, 64, norm);
      const double before = ArgumentFactor(unit * unit / 64, norm);
      const double after = ArgumentFactor(free * free / 64, norm);
      EXPECT_GE(free, unit);
      EXPECT_NEAR(after, FreeFactor(before, degree), 1e-12 * after) << unit;
      EXPECT_EQ(FreeFactor(after, degree), after) << unit;
    }
  }
}

}  // namespace
}  // namespace polyveil::compile
