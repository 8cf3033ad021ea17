#include "ckks/client/flooding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace polyveil::ckks {
namespace {

struct Moments {
  double mean = 0, sigma = 0, fourth = 0, within = 0;  // the last: share inside one sigma
};

Moments MomentsOf(std::span<const double> values, double sigma) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (const double x : values) m.mean += x / n;
  for (const double x : values) {
    m.sigma += (x - m.mean) * (x - m.mean) / n;
    m.fourth += std::pow((x - m.mean) / sigma, 4) / n;
    m.within += (std::abs(x - m.mean) <= sigma) / n;
  }
  m.sigma = std::sqrt(m.sigma);
  return m;
}

TEST(Flooding, SigmaIsThePapers) {
  const auto flooding = Flooding::Create(30, 3).value();
  EXPECT_DOUBLE_EQ(flooding.Sigma(1e-6), std::sqrt(36.0) * std::exp2(15) * 1e-6);
  const auto stronger = Flooding::Create(40, 12).value();
  EXPECT_DOUBLE_EQ(stronger.Sigma(1) / flooding.Sigma(1), 32 * 2);
}

// Limits: five standard errors of each estimate.
TEST(Flooding, AddsANormalDistribution) {
  constexpr size_t kCount = 200'000;
  for (const double noise : {1e-9, 1.0, 1e6}) {
    auto flooding = Flooding::Create(30, 1).value();
    const double sigma = flooding.Sigma(noise), value = 3 * sigma;
    std::vector<double> values(kCount, value);
    ASSERT_TRUE(flooding.Flood(values, noise).ok());
    const Moments seen = MomentsOf(values, sigma);
    const double root = std::sqrt(static_cast<double>(kCount));
    EXPECT_NEAR(seen.mean / sigma, 3, 5 / root);
    EXPECT_NEAR(seen.sigma / sigma, 1, 5 / std::sqrt(2.0) / root);
    EXPECT_NEAR(seen.fourth, 3, 5 * std::sqrt(96.0) / root);
    EXPECT_NEAR(seen.within, 0.6826895, 5 * 0.4655 / root);
  }
}

// What two keys' noise makes of the same value cannot be told apart: far fewer samples than 2^30
// show no difference in their means.
TEST(Flooding, HidesTheNoise) {
  constexpr size_t kCount = 100'000;
  auto flooding = Flooding::Create(30, 2).value();
  const double noise = 1e-3;
  std::vector<double> one(kCount, 5.0 + noise), other(kCount, 5.0 - noise);
  ASSERT_TRUE(flooding.Flood(one, noise).ok());
  ASSERT_TRUE(flooding.Flood(other, noise).ok());
  const double sigma = flooding.Sigma(noise);
  EXPECT_LT(std::abs(MomentsOf(one, sigma).mean - MomentsOf(other, sigma).mean),
            5 * sigma * std::sqrt(2.0 / kCount));
}

TEST(Flooding, LeavesNoLowBits) {
  auto flooding = Flooding::Create(30, 1).value();
  std::vector<double> values(1000, 0.1234567890123);
  ASSERT_TRUE(flooding.Flood(values, 1e-4).ok());
  const double grid = std::exp2(std::floor(std::log2(flooding.Sigma(1e-4) / 1024)));
  for (const double value : values) EXPECT_EQ(std::remainder(value, grid), 0) << value;
}

TEST(Flooding, NeverTheSameTwice) {
  double seen[2];
  for (double& value : seen) {
    auto flooding = Flooding::Create(30, 1).value();
    std::vector<double> values(64, 0.0);
    ASSERT_TRUE(flooding.Flood(values, 1).ok());
    value = values[63];
  }
  EXPECT_NE(seen[0], seen[1]);
}

TEST(Flooding, RefusesBadValues) {
  for (const int bits : {-1, 0, 29, 129})
    EXPECT_EQ(Flooding::Create(bits, 1).error().code, ErrorCode::kOutOfRange) << bits;
  EXPECT_FALSE(Flooding::Create(30, 0).ok());
  auto flooding = Flooding::Create(128, u64{1} << 40).value();
  const double nan = std::nan("");
  for (const double noise : {0.0, -1.0, nan, double{INFINITY}, 1e300})
    EXPECT_EQ(flooding.Flood(1.0, noise).error().code, ErrorCode::kOutOfRange) << noise;
  for (const double value : {nan, double{INFINITY}, -double{INFINITY}}) {
    std::vector<double> values{1, value, 2};
    EXPECT_FALSE(flooding.Flood(values, 1).ok());
    EXPECT_EQ(values[0], 1);
    EXPECT_EQ(values[2], 2);
  }
}

TEST(Flooding, MoreDecryptionsThanStated) {
  auto flooding = Flooding::Create(30, 2).value();
  EXPECT_TRUE(flooding.Flood(1.0, 1).ok());
  EXPECT_TRUE(flooding.Flood(1.0, 1).ok());
  const auto third = flooding.Flood(1.0, 1);
  ASSERT_FALSE(third.ok());
  EXPECT_NE(third.error().message.find("more than 2"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::ckks
