#include "train/attention.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "approx/range.h"
#include "train/gemm.h"
#include "train/rows.h"
#include "train/series.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// What one (batch, head) task works on. Row-major matrices with leading dimension ld.
template <typename T>
struct HeadTask {
  int context, d_head, ld, power;
  T scale, eps, shift, kappa;
  const T *q, *k, *v;
  const approx::Approximant* inverse;
  bool mean, divides, causal;
  int exact_rows;
  approx::Range clamp;  // of the inverse's input

  int Keys(int i) const { return causal ? i + 1 : context; }  // that row i sees
  // What the summands of row i are multiplied by.
  T Factor(int i) const { return 1 / (kappa * (mean ? static_cast<T>(Keys(i)) : T(1))); }
  const approx::Approximant* InverseOf(int i) const { return i < exact_rows ? nullptr : inverse; }
};

template <typename T>
T Inverse(const HeadTask<T>& task, int row, T y) {
  if (!task.divides) return 1;
  const approx::Approximant* inverse = task.InverseOf(row);
  if (!inverse) return 1 / (task.eps + y);
  return static_cast<T>((*inverse)(std::clamp<double>(y, task.clamp.lo, task.clamp.hi)));
}

template <typename T>
T InverseDerivative(const HeadTask<T>& task, int row, T y) {
  if (!task.divides) return 0;
  const approx::Approximant* inverse = task.InverseOf(row);
  if (inverse && (y < task.clamp.lo || y > task.clamp.hi)) return 0;
  if (inverse) return static_cast<T>(inverse->Derivative(y));
  const T inv = 1 / (task.eps + y);
  return -inv * inv;
}

// Rows first .. first + count - 1 of a head's scores and the keys that the last of them sees: with
// causal rows what lies right of the diagonal is left out, block by block.
struct RowBlock {
  int first, count, keys;
};
constexpr int kBlockRows = 32;

template <typename T>
RowBlock MakeBlock(const HeadTask<T>& task, int first) {
  const int count = std::min(kBlockRows, task.context - first);
  return {first, count, task.Keys(first + count - 1)};
}

template <typename T>
const T* At(const T* base, int row, int ld) {
  return base + static_cast<std::int64_t>(row) * ld;
}
template <typename T>
T* At(T* base, int row, int ld) {
  return base + static_cast<std::int64_t>(row) * ld;
}

// s [count, keys].
template <typename T>
void Scores(const HeadTask<T>& task, const RowBlock& block, T* s) {
  Gemm(false, true, block.count, block.keys, task.d_head, task.scale,
       At(task.q, block.first, task.ld), task.ld, task.k, task.ld, T(0), s, block.keys);
}

template <typename T>
void ZeroTail(T* row, int from, int to) {
  for (int k = from; k < to; ++k) row[k] = 0;
}

// out [context, d_head] with leading dimension out_ld; divisor [context]; s: scratch of kBlockRows
// context values.
template <typename T>
void HeadForward(const HeadTask<T>& task, bool softmax, T* s, T* out, int out_ld, T* divisor) {
  for (int first = 0; first < task.context; first += kBlockRows) {
    const RowBlock block = MakeBlock(task, first);
    Scores(task, block, s);
    for (int r = 0; r < block.count; ++r) {
      T* row = At(s, r, block.keys);
      const int i = first + r, keys = task.Keys(i);
      if (softmax) {
        SoftmaxRow(row, row, keys);
      } else {
        divisor[i] = PowerRow(row, row, keys, task.shift, task.Factor(i), task.power);
        const T inv = Inverse(task, i, divisor[i]);
        for (int k = 0; k < keys; ++k) row[k] *= inv;
      }
      ZeroTail(row, keys, block.keys);
    }
    Gemm(false, false, block.count, task.d_head, block.keys, T(1), s, block.keys, task.v, task.ld,
         T(0), At(out, first, out_ld), out_ld);
  }
}

template <typename T>
struct HeadGradients {
  T *dq, *dk, *dv;  // leading dimension ld
  T shift = 0, log_kappa = 0;
  bool add = false;  // to dk and dv, which the heads of a group share
};

// Scores s and dP g of row i on entry, weights p and dS g on exit.
template <typename T>
void RowBackward(const HeadTask<T>& task, bool softmax, int i, T divisor, T d_divisor, T* s, T* p,
                 T* g, HeadGradients<T>& grad) {
  const int keys = task.Keys(i);
  if (softmax) {
    SoftmaxRow(s, p, keys);
    SoftmaxRowBackward(p, g, keys);
    return;
  }
  PowerRow(s, p, keys, task.shift, task.Factor(i), task.power);
  const T dy = d_divisor + DotRow(p, g, keys) * InverseDerivative(task, i, divisor);
  T weighted = 0;
  grad.shift += PowerRowBackward(s, p, g, keys, task.shift, Inverse(task, i, divisor), dy,
                                 task.power, &weighted);
  grad.log_kappa -= weighted;
}

// s, p, g: scratch of kBlockRows context values each. d_out [context, d_head] with leading
// dimension out_ld.
template <typename T>
void HeadBackward(const HeadTask<T>& task, bool softmax, const T* divisor, const T* d_divisor,
                  const T* d_out, int out_ld, T* s, T* p, T* g, HeadGradients<T>& grad) {
  // From the last block, which sees every key: it writes dk and dv, the others add.
  T beta = grad.add ? T(1) : T(0);
  for (int first = (task.context - 1) / kBlockRows * kBlockRows; first >= 0; first -= kBlockRows) {
    const RowBlock block = MakeBlock(task, first);
    const int keys = block.keys;
    const T *d_rows = At(d_out, first, out_ld), *q = At(task.q, first, task.ld);
    Scores(task, block, s);
    Gemm(false, true, block.count, keys, task.d_head, T(1), d_rows, out_ld, task.v, task.ld, T(0),
         g, keys);
    for (int r = 0; r < block.count; ++r) {
      const int i = first + r;
      RowBackward(task, softmax, i, divisor[i], d_divisor[i], At(s, r, keys), At(p, r, keys),
                  At(g, r, keys), grad);
      ZeroTail(At(p, r, keys), task.Keys(i), keys);
      ZeroTail(At(g, r, keys), task.Keys(i), keys);
    }
    Gemm(true, false, keys, task.d_head, block.count, T(1), p, keys, d_rows, out_ld, beta, grad.dv,
         task.ld);
    Gemm(false, false, block.count, task.d_head, keys, task.scale, g, keys, task.k, task.ld, T(0),
         At(grad.dq, first, task.ld), task.ld);
    Gemm(true, false, keys, task.d_head, block.count, task.scale, g, keys, q, task.ld, beta,
         grad.dk, task.ld);
    beta = T(1);
  }
}

approx::Range ClampRange(const AttentionOptions& options) {
  constexpr double kFar = std::numeric_limits<double>::infinity();
  if (!options.inverse || options.clamp == 0) return {-kFar, kFar, 0};
  return approx::Widened(options.inverse->a, options.inverse->b, options.clamp);
}

// Where the columns of query head h begin in a row of qkv, and those of its keys and values.
struct HeadColumns {
  std::int64_t query, key, value;

  HeadColumns(const AttentionOptions& options, int d_head, std::int64_t h) {
    const std::int64_t heads = options.n_heads, kv = options.kv_heads(), shared = h * kv / heads;
    query = h * d_head;
    key = (heads + shared) * d_head;
    value = (heads + kv + shared) * d_head;
  }
};

template <typename T>
HeadTask<T> MakeTask(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                     const AttentionOptions& options, std::int64_t b, std::int64_t h) {
  const int d_head = options.d_head(qkv.size(2));
  const HeadColumns columns(options, d_head, h);
  const T* base = qkv.data_ptr<T>() + b * qkv.stride(0);
  return {static_cast<int>(qkv.size(1)),
          d_head,
          static_cast<int>(qkv.stride(1)),
          options.PowerOf(h),
          static_cast<T>(1 / std::sqrt(static_cast<double>(d_head))),
          static_cast<T>(options.eps),
          shift.data_ptr<T>()[h],
          std::exp(log_kappa.data_ptr<T>()[h]),
          base + columns.query,
          base + columns.key,
          base + columns.value,
          options.inverse ? &*options.inverse : nullptr,
          options.mean,
          options.divides(),
          options.causal,
          options.exact_rows,
          ClampRange(options)};
}

// Calls work(batch, head) for every head, the heads of a group one after another on one thread.
template <typename Work>
void ForEachHead(std::int64_t batch, const AttentionOptions& options, const Work& work) {
  const std::int64_t kv = options.kv_heads(), group = options.n_heads / kv;
  at::parallel_for(0, batch * kv, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t g = 0; g < group; ++g) work(i / kv, i % kv * group + g);
  });
}

template <typename T>
T* Scratch(std::int64_t size) {
  thread_local std::vector<T> scratch;
  scratch.resize(static_cast<std::size_t>(size));
  return scratch.data();
}

template <typename T>
void ForwardAll(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                const AttentionOptions& options, Tensor& out, Tensor& divisor) {
  const std::int64_t n = qkv.size(1);
  const bool softmax = options.form == AttentionForm::kSoftmax;
  ForEachHead(qkv.size(0), options, [&](std::int64_t b, std::int64_t h) {
    const auto task = MakeTask<T>(qkv, shift, log_kappa, options, b, h);
    HeadForward(task, softmax, Scratch<T>(kBlockRows * n),
                out.data_ptr<T>() + b * out.stride(0) + h * task.d_head,
                static_cast<int>(out.stride(1)),
                divisor.data_ptr<T>() + (b * options.n_heads + h) * n);
  });
}

template <typename T>
void BackwardAll(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                 const Tensor& divisor, const AttentionOptions& options, const Tensor& d_out,
                 const Tensor& d_divisor, Tensor& d_qkv, Tensor& d_shift, Tensor& d_kappa) {
  const std::int64_t n = qkv.size(1), group = options.n_heads / options.kv_heads();
  const bool softmax = options.form == AttentionForm::kSoftmax;
  ForEachHead(qkv.size(0), options, [&](std::int64_t b, std::int64_t h) {
    const auto task = MakeTask<T>(qkv, shift, log_kappa, options, b, h);
    T *s = Scratch<T>(3 * kBlockRows * n), *p = s + kBlockRows * n, *g = p + kBlockRows * n;
    const HeadColumns columns(options, task.d_head, h);
    T* base = d_qkv.data_ptr<T>() + b * d_qkv.stride(0);
    HeadGradients<T> grad{base + columns.query, base + columns.key, base + columns.value};
    grad.add = h % group != 0;
    const std::int64_t i = b * options.n_heads + h;
    HeadBackward(task, softmax, divisor.data_ptr<T>() + i * n, d_divisor.data_ptr<T>() + i * n,
                 d_out.data_ptr<T>() + b * d_out.stride(0) + h * task.d_head,
                 static_cast<int>(d_out.stride(1)), s, p, g, grad);
    d_shift.data_ptr<T>()[i] = grad.shift;
    d_kappa.data_ptr<T>()[i] = grad.log_kappa;
  });
}

#define PV_DISPATCH(tensor, call)                    \
  do {                                               \
    if ((tensor).scalar_type() == torch::kFloat64) { \
      using scalar_t = double;                       \
      call;                                          \
    } else {                                         \
      using scalar_t = float;                        \
      call;                                          \
    }                                                \
  } while (0)

// Options on their way to the backward pass.
struct SavedOptions : torch::CustomClassHolder {
  explicit SavedOptions(AttentionOptions options) : options(std::move(options)) {}
  AttentionOptions options;
};

void Save(AutogradContext* ctx, const AttentionOptions& options) {
  ctx->saved_data["options"] =
      torch::IValue::make_capsule(c10::make_intrusive<SavedOptions>(options));
}

AttentionOptions Restore(AutogradContext* ctx) {
  const auto saved = ctx->saved_data["options"].toCapsule();
  return c10::static_intrusive_pointer_cast<SavedOptions>(saved)->options;
}

Tensor OrZeros(const Tensor& grad, const Tensor& like) {
  return grad.defined() ? grad.contiguous() : torch::zeros_like(like);
}

struct FusedFunction : torch::autograd::Function<FusedFunction> {
  static tensor_list forward(AutogradContext* ctx, const Tensor& qkv, const Tensor& shift,
                             const Tensor& log_kappa, const AttentionOptions& options) {
    const std::int64_t width = options.n_heads * options.d_head(qkv.size(2));
    Tensor out = torch::empty({qkv.size(0), qkv.size(1), width}, qkv.options());
    Tensor divisor = torch::ones({qkv.size(0), options.n_heads, qkv.size(1)}, qkv.options());
    PV_DISPATCH(qkv, (ForwardAll<scalar_t>(qkv, shift, log_kappa, options, out, divisor)));
    ctx->save_for_backward({qkv, shift, log_kappa, divisor});
    Save(ctx, options);
    return {out, divisor};
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &qkv = saved[0], &divisor = saved[3];
    const AttentionOptions options = Restore(ctx);
    const std::int64_t width = options.n_heads * options.d_head(qkv.size(2));
    const Tensor d_out = OrZeros(grads[0], qkv.narrow(2, 0, width));
    const Tensor d_divisor = OrZeros(grads[1], divisor);
    Tensor d_qkv = torch::empty_like(qkv);
    Tensor d_shift = torch::empty({qkv.size(0), options.n_heads}, qkv.options());
    Tensor d_kappa = torch::empty_like(d_shift);
    PV_DISPATCH(qkv, (BackwardAll<scalar_t>(qkv, saved[1], saved[2], divisor, options, d_out,
                                            d_divisor, d_qkv, d_shift, d_kappa)));
    return {d_qkv, d_shift.sum(0), d_kappa.sum(0), Tensor()};
  }
};

// x^p of [batch, heads, rows, columns], p by head.
Tensor HeadPower(const Tensor& x, const AttentionOptions& options) {
  if (options.head_powers.empty()) return IntegerPower(x, options.power);
  std::vector<Tensor> heads;
  for (std::int64_t h = 0; h < x.size(1); ++h)
    heads.push_back(IntegerPower(x.narrow(1, h, 1), options.PowerOf(h)));
  return torch::cat(heads, 1);
}

// y -> 1 / (eps + y) or what stands in its place; `exact` has the former's values.
Tensor InverseOf(const Tensor& sum, const Tensor& exact, const AttentionOptions& options) {
  if (!options.inverse) return exact;
  const std::int64_t first = options.exact_rows, rest = sum.size(2) - first;
  const Tensor inverse =
      EvaluateApproximant(*options.inverse, sum.narrow(2, first, rest), options.clamp);
  return first == 0 ? inverse : torch::cat({exact.narrow(2, 0, first), inverse}, 2);
}

}  // namespace

Tensor IntegerPower(const Tensor& x, int power) {
  const Tensor square = x * x;
  Tensor out = square;
  for (int e = 2; e < power; e += 2) out = out * square;
  return out;
}

AttentionResult FusedAttention(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                               const AttentionOptions& options) {
  PV_CHECK(options.form != AttentionForm::kPowerStable, "the stable form has no fused kernel");
  const auto out =
      FusedFunction::apply(qkv.contiguous(), shift.contiguous(), log_kappa.contiguous(), options);
  const bool divides = options.form == AttentionForm::kPowerMean;
  return {out[0], divides ? out[1] : Tensor()};
}

HeadScores ScoreHeads(const Tensor& qkv, const AttentionOptions& options) {
  const std::int64_t n = qkv.size(1), heads = options.n_heads, kv = options.kv_heads();
  const std::int64_t d_head = options.d_head(qkv.size(2));
  const Tensor all = qkv.reshape({qkv.size(0), n, heads + 2 * kv, d_head}).transpose(1, 2);
  const auto of_queries = [&](std::int64_t first) {
    const Tensor shared = all.narrow(1, first, kv);
    if (kv == heads) return shared;
    return shared.unsqueeze(2)
        .expand({-1, -1, heads / kv, -1, -1})
        .reshape({qkv.size(0), heads, n, d_head});
  };
  const Tensor scores = torch::matmul(all.narrow(1, 0, heads), of_queries(heads).transpose(2, 3)) /
                        std::sqrt(static_cast<double>(d_head));
  const Tensor ones = torch::ones({n, n}, qkv.options());
  return {scores, of_queries(heads + kv), options.causal ? ones.tril() : ones};
}

AttentionTrace WeighScores(const HeadScores& heads, const Tensor& shift, const Tensor& log_kappa,
                           const AttentionOptions& options) {
  const Tensor& mask = heads.mask;
  if (options.form == AttentionForm::kSoftmax)
    return {heads.scores * mask,
            {},
            {},
            {},
            torch::softmax(heads.scores.masked_fill(mask == 0, -INFINITY), -1)};
  const Tensor scores = heads.scores + shift.view({1, -1, 1, 1});
  const Tensor keys =
      options.mean ? mask.sum(1).view({1, 1, -1, 1}) : torch::ones({1, 1, 1, 1}, mask.options());
  const Tensor kappa = log_kappa.exp().view({1, -1, 1, 1});
  Tensor bound = torch::ones({1, options.n_heads, 1, 1}, mask.options());
  if (options.form == AttentionForm::kPowerStable)  // constant for the gradient: it cancels
    bound = (scores * mask).abs().amax(-1, true).detach() + 1e-6;
  const Tensor powers = HeadPower(scores / bound, options) * mask / (kappa * keys);
  if (!options.divides()) return {scores * mask, powers, {}, {}, powers};
  const Tensor sum = powers.sum(-1, true), raw = HeadPower(bound, options);
  const Tensor inverse = InverseOf(sum, 1 / (options.eps / raw + sum), options);
  return {scores * mask, powers, (sum * raw).squeeze(-1), inverse, powers * inverse};
}

AttentionResult PlainAttention(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                               const AttentionOptions& options, AttentionTrace* trace) {
  const HeadScores heads = ScoreHeads(qkv, options);
  const AttentionTrace weighed = WeighScores(heads, shift, log_kappa, options);
  if (trace) *trace = weighed;
  const Tensor out = torch::matmul(weighed.weights, heads.values).transpose(1, 2).contiguous();
  return {out.view({qkv.size(0), qkv.size(1), -1}), weighed.divisor};
}

AttentionResult Attend(const Tensor& qkv, const Tensor& shift, const Tensor& log_kappa,
                       const AttentionOptions& options, AttentionTrace* trace) {
  return trace || options.form == AttentionForm::kPowerStable || !qkv.is_cpu()
             ? PlainAttention(qkv, shift, log_kappa, options, trace)
             : FusedAttention(qkv, shift, log_kappa, options);
}

}  // namespace polyveil::train
