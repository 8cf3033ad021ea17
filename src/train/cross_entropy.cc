#include "train/cross_entropy.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "train/bf16_product.h"
#include "train/rows.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr std::int64_t kLogitRows = 512;  // of logits at a time: 8 MB at a vocabulary of 4096

// Losses of logits' rows, 0 where the target is negative. gradient, when not null: of scale times
// their sum, may be the logits themselves, or as bfloat16.
template <typename T, typename G>
Tensor RowLosses(Tensor& logits, const Tensor& targets, double scale, G* gradient) {
  const std::int64_t n = logits.size(1);
  Tensor losses = torch::zeros({logits.size(0)}, logits.options());
  at::parallel_for(0, logits.size(0), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      T* row = logits.data_ptr<T>() + r * n;
      const auto target = static_cast<int>(targets.data_ptr<std::int64_t>()[r]);
      const auto width = static_cast<int>(n);
      T sum = 1;
      if (target >= 0) losses.data_ptr<T>()[r] = CrossEntropyRow(row, width, target, &sum);
      if (!gradient) continue;
      if (target >= 0) row[target] -= sum;
      ScaleRow(row, gradient + r * n, width, target >= 0 ? static_cast<T>(scale) / sum : T(0));
    }
  });
  return losses;
}

Tensor RowLosses(Tensor& logits, const Tensor& targets) {
  if (logits.scalar_type() == torch::kFloat64)
    return RowLosses<double>(logits, targets, 1, static_cast<double*>(nullptr));
  return RowLosses<float>(logits, targets, 1, static_cast<float*>(nullptr));
}

// One block of rows: returns the sum of its losses, fills d_hidden, adds to d_embed.
struct HeadBlock {
  Tensor hidden, embed, targets;
  double scale;

  Tensor Run(Tensor& d_hidden, Tensor& d_embed) const {
    Tensor logits = torch::mm(hidden, embed.t());
    const Tensor losses = logits.scalar_type() == torch::kFloat64
                              ? RowLosses<double>(logits, targets, scale, logits.data_ptr<double>())
                              : RowLosses<float>(logits, targets, scale, logits.data_ptr<float>());
    torch::mm_out(d_hidden, logits, embed);
    d_embed.addmm_(logits.t(), hidden);
    return losses.sum();
  }

  Tensor RunBf16(Tensor& d_hidden, Tensor& d_embed) const {
    Tensor logits = torch::empty({hidden.size(0), embed.size(0)}, torch::kFloat32);
    Tensor gradient = torch::empty(logits.sizes(), torch::kBFloat16);
    MultiplyBf16(hidden, embed.t(), logits);
    const Tensor losses = RowLosses<float>(logits, targets, scale,
                                           reinterpret_cast<std::uint16_t*>(gradient.data_ptr()));
    MultiplyBf16(gradient, embed, d_hidden);
    MultiplyBf16(gradient.t(), hidden, d_embed, true);
    return losses.sum();
  }
};

struct HeadFunction : torch::autograd::Function<HeadFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& embed,
                        const Tensor& targets, Precision precision) {
    const bool bf16 = precision == Precision::kBf16;
    Tensor d_hidden = torch::empty_like(hidden), d_embed = torch::zeros_like(embed);
    const double scale = 1.0 / std::max<double>(1, (targets >= 0).sum().item<double>());
    const Tensor h = bf16 ? RoundToBf16(hidden) : hidden;
    const Tensor e = bf16 ? RoundToBf16(embed) : embed;
    Tensor loss = torch::zeros({}, hidden.options());
    for (std::int64_t at = 0; at < hidden.size(0); at += kLogitRows) {
      const std::int64_t rows = std::min(kLogitRows, hidden.size(0) - at);
      const HeadBlock block{h.narrow(0, at, rows), e, targets.narrow(0, at, rows), scale};
      Tensor d_rows = d_hidden.narrow(0, at, rows);
      loss += bf16 ? block.RunBf16(d_rows, d_embed) : block.Run(d_rows, d_embed);
    }
    ctx->save_for_backward({d_hidden, d_embed});
    return loss * scale;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {saved[0] * grads[0], saved[1] * grads[0], Tensor(), Tensor()};
  }
};

}  // namespace

Tensor HeadCrossEntropy(const Tensor& hidden, const Tensor& embed, const Tensor& targets,
                        Precision precision) {
  return HeadFunction::apply(hidden, embed, targets.contiguous(), precision);
}

LossSum HeadLossSum(const Tensor& hidden, const Tensor& embed, const Tensor& targets) {
  torch::NoGradGuard no_grad;
  LossSum sum;
  const Tensor all = targets.contiguous();
  for (std::int64_t at = 0; at < hidden.size(0); at += kLogitRows) {
    const std::int64_t rows = std::min(kLogitRows, hidden.size(0) - at);
    Tensor logits = torch::mm(hidden.narrow(0, at, rows), embed.t());
    sum.nats += RowLosses(logits, all.narrow(0, at, rows)).sum().item<double>();
  }
  sum.count = (all >= 0).sum().item<std::int64_t>();
  return sum;
}

}  // namespace polyveil::train
