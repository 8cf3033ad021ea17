// Products with bfloat16 operands: bounds from the rounding of operands and of float32's sums.
#include "train/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/bf16_product.h"
#include "train/cross_entropy.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr double kRounding = 0x1p-9;  // of one operand, relative
constexpr double kProduct = 2 * kRounding + kRounding * kRounding;

double FloatSums(std::int64_t terms) { return static_cast<double>(terms) * 0x1p-24; }

Tensor Random(std::vector<std::int64_t> shape, torch::ScalarType type = torch::kFloat32) {
  return torch::randn(shape, torch::TensorOptions().dtype(torch::kFloat64)).to(type);
}
Tensor Wide(const Tensor& x) { return x.detach().to(torch::kFloat64); }

// |actual - wanted| <= bound, value by value.
void ExpectWithin(const Tensor& actual, const Tensor& wanted, const Tensor& bound,
                  const char* what) {
  const Tensor excess = (Wide(actual) - wanted).abs() - bound;
  EXPECT_LE(excess.max().item<double>(), 1e-30) << what;
}

TEST(Bf16Product, SumsInFloat32WhateverTheLayout) {
  torch::manual_seed(1);
  for (const auto& [m, k, n] : {std::array{1, 1, 1}, {3, 17, 5}, {64, 33, 130}, {128, 256, 48}}) {
    for (int layout = 0; layout < 4; ++layout) {
      const Tensor a =
          layout & 1 ? Random({k, m}, torch::kBFloat16).t() : Random({m, k}, torch::kBFloat16);
      const Tensor b =
          layout & 2 ? Random({n, k}, torch::kBFloat16).t() : Random({k, n}, torch::kBFloat16);
      Tensor c = torch::full({m, n}, 0.5);
      const Tensor wanted = torch::mm(Wide(a), Wide(b));
      const Tensor bound = FloatSums(k + 2) * (torch::mm(Wide(a).abs(), Wide(b).abs()) + 1);
      MultiplyBf16(a, b, c, true);
      ExpectWithin(c, wanted + 0.5, bound, "accumulated");
      MultiplyBf16(a, b, c);
      ExpectWithin(c, wanted, bound, "alone");
    }
  }
}

TEST(Bf16Product, RoundsAsLibTorchWhateverTheLayout) {
  torch::manual_seed(3);
  Tensor x = Random({300, 257}) * torch::pow(2.0, 40 * Random({300, 257}));
  const float edges[] = {0.0f,    -0.0f,  1.00390625f, 1.01171875f,
                         3.4e38f, 1e-40f, INFINITY,    -INFINITY};
  for (int i = 0; i < 8; ++i)
    x[0][i] = edges[i];  // ties go to even, the last finite ones to infinity
  for (const Tensor& view : {x, x.t(), x.narrow(1, 3, 40), x[5], x.to(torch::kFloat64)}) {
    const Tensor rounded = RoundToBf16(view);
    EXPECT_EQ(rounded.sizes(), view.sizes());
    EXPECT_TRUE(torch::equal(rounded, view.to(torch::kBFloat16)));
  }
}

// Gradients of float64 beside those of bfloat16 operands: every product errs by at most
// kProduct + float32's sums, times the product of absolute values.
TEST(Linear, ValuesAndGradientsWithinTheRoundingOfOperands) {
  torch::manual_seed(2);
  const Tensor x = Random({2, 9, 24}).set_requires_grad(true);
  const Tensor w = Random({40, 24}).set_requires_grad(true), dy = Random({2, 9, 40});
  const Tensor y = Linear(x, w, Precision::kBf16);
  y.backward(dy);
  const Tensor rows = Wide(x).view({18, 24}), weights = Wide(w), d = Wide(dy).view({18, 40});
  const auto check = [](const Tensor& actual, const Tensor& a, const Tensor& b, const char* what) {
    const double relative = kProduct + (1 + kProduct) * FloatSums(a.size(1));
    ExpectWithin(actual, torch::mm(a, b), relative * torch::mm(a.abs(), b.abs()), what);
  };
  check(y.view({18, 40}), rows, weights.t(), "y");
  check(x.grad().view({18, 24}), d, weights, "dx");
  check(w.grad(), d.t(), rows, "dw");
  EXPECT_FALSE(torch::equal(y, Linear(x, w, Precision::kFloat32)));
}

// The update's inner product is rounded once more: twice kProduct beside |x| |a| |b|.
TEST(Linear, UpdatesOfFrozenWeights) {
  torch::manual_seed(4);
  const Tensor x = Random({2, 9, 24}).set_requires_grad(true), w = Random({40, 24});
  const Tensor a = Random({3, 24}).set_requires_grad(true);
  const Tensor b = Random({40, 3}).set_requires_grad(true), dy = Random({2, 9, 40});
  const Tensor y = Linear(x, w.to(torch::kBFloat16), Precision::kBf16, {}, {a, b});
  y.backward(dy);
  const Tensor rows = Wide(x).view({18, 24}), d = Wide(dy).view({18, 40});
  const Tensor wa = Wide(a), wb = Wide(b), whole = Wide(w) + torch::mm(wb, wa);
  const Tensor sizes = Wide(w).abs() + torch::mm(wb.abs(), wa.abs());
  const double relative = 3 * kProduct;
  const auto check = [&](const Tensor& actual, const Tensor& wanted, const Tensor& size,
                         const char* what) { ExpectWithin(actual, wanted, relative * size, what); };
  check(y.view({18, 40}), torch::mm(rows, whole.t()), torch::mm(rows.abs(), sizes.t()), "y");
  check(x.grad().view({18, 24}), torch::mm(d, whole), torch::mm(d.abs(), sizes), "dx");
  const Tensor left = torch::mm(d.t(), rows), left_size = torch::mm(d.abs().t(), rows.abs());
  check(b.grad(), torch::mm(left, wa.t()), torch::mm(left_size, wa.abs().t()), "db");
  check(a.grad(), torch::mm(wb.t(), left), torch::mm(wb.abs().t(), left_size), "da");
  EXPECT_FALSE(w.grad().defined());
  const Tensor exact = Linear(x, w, Precision::kFloat32, {}, {a, b}).detach().view({18, 40});
  ExpectWithin(exact, torch::mm(rows, whole.t()), FloatSums(64) * torch::mm(rows.abs(), sizes.t()),
               "float32");
}

TEST(HeadCrossEntropy, Bf16GradientsWithinTheRoundingOfOperands) {
  torch::manual_seed(3);
  const std::int64_t rows = 600, vocab = 300, d = 16;  // more rows than one block's
  const Tensor hidden = Random({rows, d}).set_requires_grad(true);
  const Tensor embed = (Random({vocab, d}) * 0.5).set_requires_grad(true);
  Tensor targets = torch::randint(0, vocab, {rows}, torch::kInt64);
  targets[7] = targets[599] = -100;
  const Tensor loss = HeadCrossEntropy(hidden, embed, targets, Precision::kBf16);
  loss.backward();

  const Tensor h = Wide(hidden), e = Wide(embed);
  const Tensor counted = (targets >= 0).to(torch::kFloat64).unsqueeze(1);
  const double count = counted.sum().item<double>();
  const Tensor logits = torch::mm(h, e.t());
  const Tensor log_p = torch::log_softmax(logits, 1);
  const Tensor onehot =
      torch::zeros_like(log_p).scatter_(1, targets.clamp_min(0).unsqueeze(1), 1.0);
  const Tensor g = (log_p.exp() - onehot) * counted / count;
  // A logit errs by delta, so p by a factor e^(2 delta) at most, and 8 + |log p| units of the
  // exponential's rounding; the loss by 2 delta.
  const Tensor delta =
      ((kProduct + FloatSums(2 * d)) * torch::mm(h.abs(), e.abs().t())).amax(1, true);
  const Tensor exponential = (40 + logits.abs().amax()) * 0x1p-22;
  const Tensor p_error =
      log_p.exp() * ((2 * delta).exp() * (1 + exponential) - 1 + 0x1p-20) * counted / count;
  const Tensor g_error = p_error + (g.abs() + p_error) * kRounding;
  const double sums = FloatSums(rows + vocab);
  const auto bound = [&](const Tensor& error, const Tensor& gradient, const Tensor& other) {
    const Tensor rounded = torch::mm(gradient.abs() + error, other.abs() * (1 + kRounding));
    return torch::mm(error, other.abs()) + (kRounding + sums) * rounded;
  };
  ExpectWithin(hidden.grad(), torch::mm(g, e), bound(g_error, g, e), "d hidden");
  ExpectWithin(embed.grad(), torch::mm(g.t(), h), bound(g_error.t(), g.t(), h), "d embed");
  const double wanted = -(log_p * onehot * counted).sum().item<double>() / count;
  EXPECT_NEAR(loss.item<double>(), wanted, (2 * delta).max().item<double>());
}

}  // namespace
}  // namespace polyveil::train
