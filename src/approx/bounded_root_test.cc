#include "approx/bounded_root.h"

#include <gtest/gtest.h>

#include <cmath>

namespace polyveil::approx {
namespace {

TEST(BoundedRoot, StaysBetweenItsBounds) {
  struct Case {
    double ratio, tolerance;
    int depth;
  };
  for (const auto& [ratio, tolerance, depth] : {Case{4, 0.05, 2},
                                                {30, 0.1, 3},
                                                {250, 0.2, 4},
                                                {1e4, 0.2, 11},
                                                {1e5, 0.3, 11},
                                                {1e6, 0.5, 11}}) {
    const double a = 0.3 / ratio, b = 0.3;
    const auto p = BoundedInverseRoot(a, b, tolerance);
    ASSERT_TRUE(p.ok()) << p.error().message;
    EXPECT_EQ(p->LevelDepth(), depth) << ratio;
    for (int i = 0; i <= 4000; ++i) {
      const double x = a * std::pow(ratio, i / 4000.0), y = (*p)(x)*std::sqrt(x);
      EXPECT_LE(y, 1 + 1e-3) << ratio << " at " << x;
      EXPECT_GE(y, 1 - tolerance - 1e-3) << ratio << " at " << x;
    }
    EXPECT_LE(std::abs((*p)(0)), 2.5 / std::sqrt(a)) << "below the interval";
  }
}

TEST(BoundedRoot, RefusesWhatItCannotReach) {
  EXPECT_EQ(BoundedInverseRoot(0, 1, 0.1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(BoundedInverseRoot(2, 1, 0.1).error().code, ErrorCode::kInvalidArgument);
  for (const auto& [a, tolerance] : {std::pair{1e-12, 0.01}, {1e-6, 0.1}})
    EXPECT_EQ(BoundedInverseRoot(a, 1, tolerance).error().code, ErrorCode::kOutOfRange) << a;
}

}  // namespace
}  // namespace polyveil::approx
