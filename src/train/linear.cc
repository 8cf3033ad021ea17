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

std::vector<std::int64_t> WithLast(const Tensor& x, std::int64_t last) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  // a, b: of an update, or without values. trains: w.
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w, const Tensor& a,
                        const Tensor& b, bool trains) {
    const Tensor rows = RoundToBf16(x.reshape({-1, x.size(-1)})), weights = RoundToBf16(w);
    Tensor out = Multiply(rows, weights.t()), left, right, inner;
    if (a.numel() > 0) {
      right = RoundToBf16(a);
      left = RoundToBf16(b);
      inner = RoundToBf16(Multiply(rows, right.t()));
      MultiplyBf16(inner, left.t(), out, true);
    }
    ctx->saved_data["trains"] = trains;
    ctx->save_for_backward({rows, weights, right, left, inner});
    return out.view(WithLast(x, w.size(0)));
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &rows = saved[0], &w = saved[1], &right = saved[2], &left = saved[3];
    const Tensor d = RoundToBf16(grads[0].reshape({-1, grads[0].size(-1)}));
    Tensor dx = Multiply(d, w), dw, da, db;
    if (right.defined()) {
      const Tensor inner = RoundToBf16(Multiply(d, left));
      MultiplyBf16(inner, right, dx, true);
      da = Multiply(inner.t(), rows);
      db = Multiply(d.t(), saved[4]);
    }
    if (ctx->saved_data["trains"].toBool()) dw = Multiply(d.t(), rows);
    return {dx.view(WithLast(grads[0], w.size(1))), dw, da, db, Tensor()};
  }
};

}  // namespace

Tensor Linear(const Tensor& x, const Tensor& w, Precision precision, const Tensor& bias,
              const LowRank& update) {
  if (precision == Precision::kBf16 && x.is_cpu()) {
    const Tensor none = torch::empty({0});
    const bool updated = update.a.defined();
    const Tensor out = LinearFunction::apply(x, w, updated ? update.a : none,
                                             updated ? update.b : none, w.requires_grad());
    return bias.defined() ? out + bias : out;
  }
  const Tensor out = torch::linear(x, w.to(x.scalar_type()), bias);
  return update.a.defined() ? out + torch::linear(torch::linear(x, update.a), update.b) : out;
}

Tensor Product(const Tensor& a, const Tensor& b, Precision precision) {
  return precision == Precision::kBf16 && a.is_cpu() ? Multiply(RoundToBf16(a), RoundToBf16(b))
                                                     : torch::mm(a, b);
}

}  // namespace polyveil::train
