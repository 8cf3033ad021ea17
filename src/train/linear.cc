#include "train/linear.h"

#include "train/bf16_product.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

Tensor Multiply(const Tensor& a, const Tensor& b) {
  Tensor c = torch::empty({a.size(0), b.size(1)}, torch::kFloat32);
  MultiplyBf16(a, b, c);
  return c;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w) {
    const Tensor rows = RoundToBf16(x.reshape({-1, x.size(-1)})), weights = RoundToBf16(w);
    ctx->save_for_backward({rows, weights});
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = w.size(0);
    return Multiply(rows, weights.t()).view(shape);
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    std::vector<std::int64_t> shape = grads[0].sizes().vec();
    const Tensor rows = RoundToBf16(grads[0].reshape({-1, shape.back()}));
    shape.back() = saved[1].size(1);
    return {Multiply(rows, saved[1]).view(shape), Multiply(rows.t(), saved[0])};
  }
};

}  // namespace

Tensor Linear(const Tensor& x, const Tensor& w, Precision precision, const Tensor& bias) {
  if (precision != Precision::kBf16) return torch::linear(x, w, bias);
  const Tensor out = LinearFunction::apply(x, w);
  return bias.defined() ? out + bias : out;
}

Tensor Product(const Tensor& a, const Tensor& b, Precision precision) {
  return precision == Precision::kBf16 ? Multiply(RoundToBf16(a), RoundToBf16(b)) : torch::mm(a, b);
}

}  // namespace polyveil::train
