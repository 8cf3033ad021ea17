#include "train/series.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "approx/range.h"
#include "base/target_clones.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr int kBlock = 64;  // values whose recurrences run side by side

template <typename T>
struct Series {
  std::vector<T> coeffs;
  T scale, offset;  // u = scale x + offset in [-1, 1]
  T lo, hi;         // of the clamp
};

template <typename T>
Series<T> MakeSeries(const approx::Approximant& p, double clamp) {
  Series<T> s;
  s.coeffs.assign(p.coeffs.begin(), p.coeffs.end());
  s.scale = static_cast<T>(2 / (p.b - p.a));
  s.offset = static_cast<T>(-(p.a + p.b) / (p.b - p.a));
  s.lo = -std::numeric_limits<T>::infinity();
  s.hi = std::numeric_limits<T>::infinity();
  if (clamp > 0) {
    const approx::Range interval = approx::Widened(p.a, p.b, clamp);
    s.lo = static_cast<T>(interval.lo);
    s.hi = static_cast<T>(interval.hi);
  }
  return s;
}

// Clenshaw's recurrence and its derivative, kBlock values at a time.
template <typename T>
[[gnu::always_inline]] inline void BlockBody(const T* coeffs, int terms, T scale, T offset, T lo,
                                             T hi, const T* x, T* y, T* dy, int n) {
  T u[kBlock], b1[kBlock], b2[kBlock], d1[kBlock], d2[kBlock];
  for (int i = 0; i < n; ++i) {
    const T inside = x[i] < lo ? lo : x[i] > hi ? hi : x[i];
    u[i] = scale * inside + offset;
    b1[i] = b2[i] = d1[i] = d2[i] = 0;
  }
  for (int k = terms; k-- > 1;) {
    for (int i = 0; i < n; ++i) {
      const T d0 = 2 * b1[i] + 2 * u[i] * d1[i] - d2[i];
      const T b0 = 2 * u[i] * b1[i] - b2[i] + coeffs[k];
      d2[i] = d1[i];
      d1[i] = d0;
      b2[i] = b1[i];
      b1[i] = b0;
    }
  }
  for (int i = 0; i < n; ++i) {
    y[i] = u[i] * b1[i] - b2[i] + coeffs[0];
    const T slope = scale * (b1[i] + u[i] * d1[i] - d2[i]);
    dy[i] = x[i] < lo || x[i] > hi ? T(0) : slope;
  }
}

PV_TARGET_CLONES void Block(const float* c, int terms, float scale, float offset, float lo,
                            float hi, const float* x, float* y, float* dy, int n) {
  BlockBody(c, terms, scale, offset, lo, hi, x, y, dy, n);
}
void Block(const double* c, int terms, double scale, double offset, double lo, double hi,
           const double* x, double* y, double* dy, int n) {
  BlockBody(c, terms, scale, offset, lo, hi, x, y, dy, n);
}

template <typename T>
void Evaluate(const Series<T>& s, const Tensor& x, Tensor& y, Tensor& dy) {
  const T* from = x.data_ptr<T>();
  T *to = y.data_ptr<T>(), *slope = dy.data_ptr<T>();
  const std::int64_t size = x.numel(), blocks = (size + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t at = b * kBlock;
      Block(s.coeffs.data(), static_cast<int>(s.coeffs.size()), s.scale, s.offset, s.lo, s.hi,
            from + at, to + at, slope + at,
            static_cast<int>(std::min<std::int64_t>(kBlock, size - at)));
    }
  });
}

struct SeriesFunction : torch::autograd::Function<SeriesFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const approx::Approximant& p,
                        double clamp) {
    Tensor y = torch::empty_like(x), dy = torch::empty_like(x);
    if (x.scalar_type() == torch::kFloat64) {
      Evaluate(MakeSeries<double>(p, clamp), x, y, dy);
    } else {
      Evaluate(MakeSeries<float>(p, clamp), x, y, dy);
    }
    ctx->save_for_backward({dy});
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    return {grads[0] * ctx->get_saved_variables()[0], Tensor(), Tensor()};
  }
};

}  // namespace

Tensor EvaluateApproximant(const approx::Approximant& p, const Tensor& x, double clamp) {
  if (clamp == 0) return approx::Evaluate<Tensor>(p, x);
  const approx::Range interval = approx::Widened(p.a, p.b, clamp);
  return approx::Evaluate<Tensor>(p, x.clamp(interval.lo, interval.hi));
}

Tensor FusedSeries(const approx::Approximant& p, const Tensor& x, double clamp) {
  if (p.refinement != approx::Refinement::kNone || !x.is_cpu())
    return EvaluateApproximant(p, x, clamp);
  return SeriesFunction::apply(x.contiguous(), p, clamp);
}

}  // namespace polyveil::train
