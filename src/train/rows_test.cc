#include "train/rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "train/optimizer.h"

namespace polyveil::train {
namespace {

TEST(Rows, SoftmaxWithinItsErrorBound) {
  std::mt19937 random(1);
  for (const int n : {1, 2, 15, 16, 17, 128, 4096}) {
    for (const float spread : {0.1f, 5.0f, 80.0f}) {
      std::uniform_real_distribution<float> draw(-spread, spread);
      std::vector<float> s(static_cast<std::size_t>(n)), p(s.size());
      for (float& x : s) x = draw(random);
      SoftmaxRow(s.data(), p.data(), n);
      const double top = *std::max_element(s.begin(), s.end());
      double sum = 0;
      for (const float x : s) sum += std::exp(x - top);
      for (std::size_t k = 0; k < s.size(); ++k) {
        const double wanted = std::exp(s[k] - top) / sum;
        // The exponential's own error, the sum's (its terms' and its additions'), the floor at -87.
        const double relative = (top - s[k] + 8 + 32 + n / 16.0) * 0x1p-23;
        EXPECT_NEAR(p[k], wanted, wanted * relative + 2e-38) << n << " " << s[k] - top;
      }
    }
  }
}

TEST(Rows, CrossEntropyOfKnownValues) {
  std::vector<double> wide = {0, std::log(3.0), -1000};
  double wide_sum = 0;
  EXPECT_NEAR(CrossEntropyRow(wide.data(), 3, 1, &wide_sum), -std::log(0.75), 1e-15);
  EXPECT_NEAR(wide_sum, 4.0 / 3, 1e-15);
  std::vector<float> x = {0, std::log(3.0f), -1000};
  float sum = 0;
  EXPECT_NEAR(CrossEntropyRow(x.data(), 3, 0, &sum), std::log(4.0), 1e-6);
  EXPECT_NEAR(x[0], 1.0 / 3, 1e-6);
  EXPECT_NEAR(x[1], 1, 1e-6);
  EXPECT_LT(x[2], 1e-37);
}

// Against LibTorch-free float64: a distribution against itself, and two that differ.
TEST(Rows, DistillationOfKnownValues) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> draw(-4, 4);
  for (const int n : {1, 3, 16, 1000}) {
    std::vector<float> s(static_cast<std::size_t>(n)), t(s.size());
    for (float& x : s) x = draw(random);
    for (float& x : t) x = draw(random);
    std::vector<double> ps(s.size()), pt(s.size());
    double zs = 0, zt = 0, kl = 0;
    for (std::size_t k = 0; k < s.size(); ++k) zs += std::exp(s[k]), zt += std::exp(t[k]);
    for (std::size_t k = 0; k < s.size(); ++k) {
      ps[k] = std::exp(s[k]) / zs;
      pt[k] = std::exp(t[k]) / zt;
      kl += pt[k] * std::log(pt[k] / ps[k]);
    }
    const int target = n / 2;
    float text = 0;
    std::vector<float> same = t, twin = t;
    EXPECT_NEAR(DistilRow(s.data(), t.data(), n, 0.75f, target, &text), kl, 2e-5);
    EXPECT_NEAR(text, -std::log(ps[static_cast<std::size_t>(target)]), 2e-5);
    for (std::size_t k = 0; k < s.size(); ++k)
      EXPECT_NEAR(s[k], ps[k] - 0.75 * pt[k], 2e-5 * (ps[k] + pt[k])) << k;
    EXPECT_NEAR(DistilRow(same.data(), twin.data(), n, 1, 0, &text), 0, 1e-6);
  }
}

TEST(Rows, ScalesToBfloat16ByRoundingToEven) {
  const std::vector<float> x = {1.0f, 1.00390625f, 1.01171875f, -1.00390625f, 1.004f, 0.0f};
  const std::vector<std::uint16_t> wanted = {0x3f80, 0x3f80, 0x3f82, 0xbf80, 0x3f81, 0};
  std::vector<std::uint16_t> y(x.size());
  ScaleRow(x.data(), y.data(), static_cast<int>(x.size()), 1);
  EXPECT_EQ(y, wanted);
}

TEST(Rows, AdamByHand) {
  const AdamStep step{0.5, 0.9, 0.98, 0.99, 0.1, 4, 1e-8};
  const double g = 2;
  double m = 1, v = 3, w = 5;
  AdamRow(step, &g, &m, &v, &w, 1);
  EXPECT_NEAR(m, 1.0, 1e-15);
  EXPECT_NEAR(v, 0.98 * 3 + 0.02, 1e-15);
  EXPECT_NEAR(w, 4.95 - 0.1 / std::sqrt(4 * 2.96), 1e-8);
}

TEST(Rows, AdamEqualsTorch) {
  const AdamStep step{0.5, 0.9, 0.98, 0.99, 0.1, 4, 1e-8};
  torch::Tensor g = torch::randn({70}, torch::kFloat64), m = torch::randn_like(g),
                v = torch::rand_like(g), w = torch::randn_like(g);
  torch::Tensor m2 = m.clone(), v2 = v.clone(), w2 = w.clone();
  AdamRow(step, g.data_ptr<double>(), m.data_ptr<double>(), v.data_ptr<double>(),
          w.data_ptr<double>(), g.numel());
  plain::Adam(step, g, m2, v2, w2);
  for (const auto& [a, b] : {std::pair{m, m2}, {v, v2}, {w, w2}})
    EXPECT_LE((a - b).abs().max().item<double>(), 1e-12);
}

}  // namespace
}  // namespace polyveil::train
