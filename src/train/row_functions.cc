#include "train/row_functions.h"

#include <ATen/Parallel.h>

#include "base/check.h"
#include "train/rows.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr std::int64_t kGrain = 128;  // rows that are worth a thread

template <typename T>
T* Data(const Tensor& x) {
  return x.data_ptr<T>();
}

// work(T{}, row) for every row, T the scalar type.
template <typename Work>
void ForEachRow(const Tensor& like, std::int64_t rows, const Work& work) {
  PV_CHECK(like.is_contiguous(), "rows that do not follow each other");
  at::parallel_for(0, rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      like.scalar_type() == torch::kFloat64 ? work(double{}, r) : work(float{}, r);
  });
}

std::int64_t Rows(const Tensor& x) { return x.numel() / x.size(-1); }

Tensor Column(const Tensor& x) {
  auto shape = x.sizes().vec();
  shape.back() = 1;
  return torch::empty(shape, x.options());
}

struct MeanSquareFunction : Function<MeanSquareFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    const auto d = static_cast<int>(x.size(-1));
    Tensor out = Column(x);
    ForEachRow(x, Rows(x), [&]<typename T>(T, std::int64_t r) {
      const T* row = Data<T>(x) + r * d;
      Data<T>(out)[r] = DotRow(row, row, d) / static_cast<T>(d);
    });
    ctx->save_for_backward({x});
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const Tensor x = ctx->get_saved_variables()[0];
    return {x * (grads[0] * (2.0 / static_cast<double>(x.size(-1))))};
  }
};

struct ScaleRowsFunction : Function<ScaleRowsFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& gain,
                        const Tensor& factor) {
    const auto d = static_cast<int>(x.size(-1));
    Tensor out = torch::empty_like(x);
    ForEachRow(x, Rows(x), [&]<typename T>(T, std::int64_t r) {
      GainRow(Data<T>(x) + r * d, Data<T>(gain), Data<T>(factor)[r], Data<T>(out) + r * d, d);
    });
    ctx->save_for_backward({x, gain, factor});
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &gain = saved[1], &factor = saved[2];
    const Tensor dy = grads[0].contiguous();
    const auto d = static_cast<int>(x.size(-1));
    Tensor dx = torch::empty_like(x), d_factor = Column(x);
    // One sum for each thread: rows go to threads in one fixed way.
    Tensor d_gain = torch::zeros({at::get_num_threads(), d}, x.options());
    ForEachRow(x, Rows(x), [&]<typename T>(T, std::int64_t r) {
      Data<T>(d_factor)[r] = GainRowBackward(Data<T>(dy) + r * d, Data<T>(x) + r * d, Data<T>(gain),
                                             Data<T>(factor)[r], Data<T>(dx) + r * d,
                                             Data<T>(d_gain) + at::get_thread_num() * d, d);
    });
    return {dx, d_gain.sum(0), d_factor};
  }
};

struct AddScaledFunction : Function<AddScaledFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& y,
                        const Tensor& factor) {
    const auto d = static_cast<int>(x.size(-1));
    Tensor out = torch::empty_like(x);
    ForEachRow(x, Rows(x), [&]<typename T>(T, std::int64_t r) {
      AddScaledRow(Data<T>(x) + r * d, Data<T>(y) + r * d, Data<T>(factor)[r], Data<T>(out) + r * d,
                   d);
    });
    ctx->save_for_backward({y, factor});
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &y = saved[0], &factor = saved[1];
    const Tensor dz = grads[0].contiguous();
    const auto d = static_cast<int>(y.size(-1));
    Tensor d_factor = torch::empty_like(factor);
    ForEachRow(y, Rows(y), [&]<typename T>(T, std::int64_t r) {
      Data<T>(d_factor)[r] = DotRow(Data<T>(dz) + r * d, Data<T>(y) + r * d, d);
    });
    return {dz, dz * factor, d_factor};
  }
};

struct HalvesFunction : Function<HalvesFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& h) {
    const auto f = static_cast<int>(h.size(-1) / 2);
    auto shape = h.sizes().vec();
    shape.back() = f;
    Tensor out = torch::empty(shape, h.options());
    ForEachRow(h, Rows(h), [&]<typename T>(T, std::int64_t r) {
      HalvesRow(Data<T>(h) + 2 * r * f, Data<T>(out) + r * f, f);
    });
    ctx->save_for_backward({h});
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const Tensor h = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    const auto f = static_cast<int>(h.size(-1) / 2);
    Tensor dh = torch::empty_like(h);
    ForEachRow(h, Rows(h), [&]<typename T>(T, std::int64_t r) {
      HalvesRowBackward(Data<T>(dy) + r * f, Data<T>(h) + 2 * r * f, Data<T>(dh) + 2 * r * f, f);
    });
    return {dh};
  }
};

}  // namespace

namespace plain {

Tensor MeanSquare(const Tensor& x) { return (x * x).mean(-1, true); }

Tensor ScaleRows(const Tensor& x, const Tensor& gain, const Tensor& factor) {
  const Tensor out = x * gain;
  return factor.defined() ? out * factor : out;
}

Tensor AddScaled(const Tensor& x, const Tensor& y, const Tensor& factor) { return x + y * factor; }

Tensor HalvesProduct(const Tensor& h) {
  const auto halves = h.chunk(2, -1);
  return halves[0] * halves[1];
}

}  // namespace plain

Tensor MeanSquare(const Tensor& x) {
  return x.is_cpu() ? MeanSquareFunction::apply(x.contiguous()) : plain::MeanSquare(x);
}

Tensor ScaleRows(const Tensor& x, const Tensor& gain, const Tensor& factor) {
  if (!x.is_cpu()) return plain::ScaleRows(x, gain, factor);
  const Tensor rows = x.contiguous();
  return ScaleRowsFunction::apply(rows, gain,
                                  factor.defined() ? factor.contiguous() : Column(rows).fill_(1));
}

Tensor AddScaled(const Tensor& x, const Tensor& y, const Tensor& factor) {
  if (!x.is_cpu()) return plain::AddScaled(x, y, factor);
  return AddScaledFunction::apply(x.contiguous(), y.contiguous(), factor.contiguous());
}

Tensor HalvesProduct(const Tensor& h) {
  return h.is_cpu() ? HalvesFunction::apply(h.contiguous()) : plain::HalvesProduct(h);
}

}  // namespace polyveil::train
