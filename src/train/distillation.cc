#include "train/distillation.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "train/bf16_product.h"
#include "train/rows.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr std::int64_t kPairedRows = 256;  // two blocks of logits at a time

// Some rows: logits [rows, vocab] of both models and targets.
template <typename T>
struct LogitRows {
  Tensor student, wanted, targets;
  double weight, scale;

  // kl and text [rows], 0 where the target is negative; the gradient of scale times the loss goes
  // to gradient, of T or bfloat16, which may be the student's logits themselves.
  template <typename G>
  void Run(T* kl, T* text, G* gradient) const {
    const auto n = static_cast<int>(student.size(1));
    at::parallel_for(0, student.size(0), 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        T* row = student.data_ptr<T>() + r * n;
        const auto target = static_cast<int>(targets.data_ptr<std::int64_t>()[r]);
        kl[r] = text[r] = 0;
        if (target >= 0) {
          kl[r] = DistilRow(row, wanted.data_ptr<T>() + r * n, n, static_cast<T>(weight), target,
                            &text[r]);
          row[target] += static_cast<T>(weight - 1);
        }
        ScaleRow(row, gradient + r * n, n, target >= 0 ? static_cast<T>(scale) : T(0));
      }
    });
  }
};

struct PairedBlock {
  Tensor hidden, embed, teacher_hidden, teacher_embed, targets;
  double weight, scale;

  template <typename T>
  void Run(Tensor& kl, Tensor& text, Tensor& d_hidden, Tensor* d_embed) const {
    const LogitRows<T> rows{torch::mm(hidden, embed.t()),
                            torch::mm(teacher_hidden, teacher_embed.t()), targets, weight, scale};
    rows.Run(kl.data_ptr<T>(), text.data_ptr<T>(), rows.student.template data_ptr<T>());
    torch::mm_out(d_hidden, rows.student, embed);
    if (d_embed) d_embed->addmm_(rows.student.t(), hidden);
  }

  void RunBf16(Tensor& kl, Tensor& text, Tensor& d_hidden, Tensor* d_embed) const {
    const std::vector<std::int64_t> shape = {hidden.size(0), embed.size(0)};
    Tensor student = torch::empty(shape), wanted = torch::empty(shape);
    Tensor gradient = torch::empty(shape, torch::kBFloat16);
    MultiplyBf16(hidden, embed.t(), student);
    MultiplyBf16(teacher_hidden, teacher_embed.t(), wanted);
    LogitRows<float>{student, wanted, targets, weight, scale}.Run(
        kl.data_ptr<float>(), text.data_ptr<float>(),
        reinterpret_cast<std::uint16_t*>(gradient.data_ptr()));
    MultiplyBf16(gradient, embed, d_hidden);
    if (d_embed) MultiplyBf16(gradient.t(), hidden, *d_embed, true);
  }
};

struct DistillationFunction : torch::autograd::Function<DistillationFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& embed,
                        const Tensor& teacher_hidden, const Tensor& teacher_embed,
                        const Tensor& targets, double weight, bool embed_trains, Tensor* text_loss,
                        Precision precision) {
    const bool bf16 = precision == Precision::kBf16;
    const auto operand = [&](const Tensor& x) { return bf16 ? RoundToBf16(x) : x.contiguous(); };
    const bool shared =
        embed.is_same(teacher_embed) || embed.data_ptr() == teacher_embed.data_ptr();
    const Tensor h = operand(hidden), wanted_h = operand(teacher_hidden), e = operand(embed);
    const Tensor wanted_e = shared ? e : operand(teacher_embed);
    Tensor d_hidden = torch::empty_like(hidden);
    Tensor d_embed = embed_trains ? torch::zeros_like(embed) : torch::zeros({}, embed.options());
    Tensor kl = torch::empty({hidden.size(0)}, hidden.options()), text = torch::empty_like(kl);
    const double scale = 1.0 / std::max<double>(1, (targets >= 0).sum().item<double>());
    for (std::int64_t at = 0; at < hidden.size(0); at += kPairedRows) {
      const std::int64_t rows = std::min(kPairedRows, hidden.size(0) - at);
      const auto part = [&](const Tensor& x) { return x.narrow(0, at, rows); };
      const PairedBlock block{part(h), e, part(wanted_h), wanted_e, part(targets), weight, scale};
      Tensor d_rows = part(d_hidden), kl_rows = part(kl), text_rows = part(text);
      Tensor* const d_shared = embed_trains ? &d_embed : nullptr;
      if (bf16) {
        block.RunBf16(kl_rows, text_rows, d_rows, d_shared);
      } else if (hidden.scalar_type() == torch::kFloat64) {
        block.Run<double>(kl_rows, text_rows, d_rows, d_shared);
      } else {
        block.Run<float>(kl_rows, text_rows, d_rows, d_shared);
      }
    }
    ctx->save_for_backward({d_hidden, d_embed});
    *text_loss = text.sum() * scale;
    return ((1 - weight) * text.sum() + weight * kl.sum()) * scale;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    tensor_list out(9);
    out[0] = saved[0] * grads[0];
    if (saved[1].dim() > 0) out[1] = saved[1] * grads[0];
    return out;
  }
};

}  // namespace

namespace plain {

Tensor HeadDistillation(const Tensor& hidden, const Tensor& embed, const Tensor& teacher_hidden,
                        const Tensor& teacher_embed, const Tensor& targets, double weight,
                        Tensor* text_loss) {
  const Tensor counted = (targets >= 0).to(hidden.scalar_type());
  const Tensor share = counted / counted.sum().clamp_min(1);
  const Tensor student = torch::log_softmax(torch::mm(hidden, embed.t()), 1);
  const Tensor text = -student.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  const Tensor wanted =
      torch::log_softmax(torch::mm(teacher_hidden.detach(), teacher_embed.detach().t()), 1);
  const Tensor kl = (wanted.exp() * (wanted - student)).sum(1);
  *text_loss = (text * share).sum().detach();
  return (((1 - weight) * text + weight * kl) * share).sum();
}

}  // namespace plain

Tensor HeadDistillation(const Tensor& hidden, const Tensor& embed, const Tensor& teacher_hidden,
                        const Tensor& teacher_embed, const Tensor& targets, double weight,
                        Tensor* text_loss, Precision precision) {
  if (!hidden.is_cpu())
    return plain::HeadDistillation(hidden, embed, teacher_hidden, teacher_embed,
                                   targets.to(hidden.device()), weight, text_loss);
  return DistillationFunction::apply(hidden, embed, teacher_hidden.detach(), teacher_embed.detach(),
                                     targets.contiguous(), weight, embed.requires_grad(), text_loss,
                                     precision);
}

}  // namespace polyveil::train
