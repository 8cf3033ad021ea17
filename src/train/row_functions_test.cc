// Against LibTorch's own operations, in float64 and, within its rounding, in float32.
#include "train/row_functions.h"

#include <gtest/gtest.h>

#include <functional>

namespace polyveil::train {
namespace {

using torch::Tensor;
using Operands = std::vector<Tensor>;
using Operation = std::function<Tensor(const Operands&)>;

Operands Leaves(const Operands& values, torch::ScalarType type) {
  Operands out;
  for (const Tensor& x : values) out.push_back(x.detach().to(type).clone().set_requires_grad(true));
  return out;
}

// Values and gradients of `ours` in `type` against those of `plain` in float64.
void ExpectSame(const Operands& values, const Operation& ours, const Operation& plain,
                torch::ScalarType type, double tolerance) {
  const Operands a = Leaves(values, type), b = Leaves(values, torch::kFloat64);
  const Tensor x = ours(a), y = plain(b);
  const Tensor weights = torch::randn(y.sizes(), torch::kFloat64);
  (x * weights.to(type)).sum().backward();
  (y * weights).sum().backward();
  const auto close = [&](const Tensor& actual, const Tensor& wanted, std::size_t index) {
    const double scale = std::max(1.0, wanted.abs().max().item<double>());
    const double worst = (actual.to(torch::kFloat64) - wanted).abs().max().item<double>();
    EXPECT_LE(worst, tolerance * scale) << index;  // also false for a NaN
  };
  close(x.detach(), y.detach(), 99);
  for (std::size_t i = 0; i < a.size(); ++i) close(a[i].grad(), b[i].grad(), i);
}

void ExpectSame(const Operands& values, const Operation& ours, const Operation& plain) {
  ExpectSame(values, ours, plain, torch::kFloat64, 1e-12);
  ExpectSame(values, ours, plain, torch::kFloat32, 1e-4);  // sums of up to 1500 terms of size 10
}

Tensor RandomTensor(std::vector<std::int64_t> shape) {
  return torch::randn(shape, torch::kFloat64);
}

TEST(RowFunctions, EqualTorchWithGradients) {
  torch::manual_seed(5);
  for (const std::int64_t d : {1, 7, 16, 130}) {
    const Tensor x = RandomTensor({3, 500, d}), y = RandomTensor({3, 500, d}),
                 row = RandomTensor({3, 500, 1});
    const Tensor gain = RandomTensor({d});
    ExpectSame(
        {x}, [](const Operands& in) { return MeanSquare(in[0]); },
        [](const Operands& in) { return plain::MeanSquare(in[0]); });
    ExpectSame(
        {x, gain, row}, [](const Operands& in) { return ScaleRows(in[0], in[1], in[2]); },
        [](const Operands& in) { return plain::ScaleRows(in[0], in[1], in[2]); });
    ExpectSame(
        {x, gain}, [](const Operands& in) { return ScaleRows(in[0], in[1]); },
        [](const Operands& in) { return plain::ScaleRows(in[0], in[1]); });
    ExpectSame(
        {x, y, row}, [](const Operands& in) { return AddScaled(in[0], in[1], in[2]); },
        [](const Operands& in) { return plain::AddScaled(in[0], in[1], in[2]); });
    const Tensor h = RandomTensor({3, 500, 2 * d});
    ExpectSame(
        {h}, [](const Operands& in) { return HalvesProduct(in[0]); },
        [](const Operands& in) { return plain::HalvesProduct(in[0]); });
  }
}

}  // namespace
}  // namespace polyveil::train
