#include "train/distillation.h"

#include <algorithm>

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr std::int64_t kPairedRows = 256;  // two blocks of logits at a time

struct DistillationFunction : torch::autograd::Function<DistillationFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& embed,
                        const Tensor& teacher_hidden, const Tensor& teacher_embed,
                        const Tensor& targets, double weight, bool embed_trains,
                        Tensor* text_loss) {
    Tensor d_hidden = torch::empty_like(hidden);
    Tensor d_embed = embed_trains ? torch::zeros_like(embed) : torch::zeros({}, embed.options());
    const Tensor counted = (targets >= 0).to(hidden.scalar_type());
    const double scale = 1.0 / std::max(1.0, counted.sum().item<double>());
    Tensor text = torch::zeros({}, hidden.options()), teacher = torch::zeros({}, hidden.options());
    for (std::int64_t at = 0; at < hidden.size(0); at += kPairedRows) {
      const std::int64_t rows = std::min(kPairedRows, hidden.size(0) - at);
      const Tensor h = hidden.narrow(0, at, rows), mask = counted.narrow(0, at, rows);
      const Tensor index = targets.narrow(0, at, rows).clamp_min(0).unsqueeze(1);
      const Tensor student = torch::log_softmax(torch::mm(h, embed.t()), 1);
      const Tensor wanted =
          torch::log_softmax(torch::mm(teacher_hidden.narrow(0, at, rows), teacher_embed.t()), 1);
      const Tensor wanted_p = wanted.exp();
      text += (-student.gather(1, index).squeeze(1) * mask).sum();
      teacher += ((wanted_p * (wanted - student)).sum(1) * mask).sum();
      Tensor d_logits = student.exp() - weight * wanted_p;
      d_logits.scatter_add_(1, index, torch::full({rows, 1}, weight - 1, h.options()));
      d_logits.mul_((mask * scale).unsqueeze(1));
      Tensor d_rows = d_hidden.narrow(0, at, rows);
      torch::mm_out(d_rows, d_logits, embed);
      if (embed_trains) d_embed.addmm_(d_logits.t(), h);
    }
    ctx->save_for_backward({d_hidden, d_embed});
    *text_loss = text * scale;
    return ((1 - weight) * text + weight * teacher) * scale;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const bool embed_trains = saved[1].dim() > 0;
    return {saved[0] * grads[0],
            embed_trains ? saved[1] * grads[0] : Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

Tensor HeadDistillation(const Tensor& hidden, const Tensor& embed, const Tensor& teacher_hidden,
                        const Tensor& teacher_embed, const Tensor& targets, double weight,
                        Tensor* text_loss) {
  return DistillationFunction::apply(hidden, embed, teacher_hidden.detach(), teacher_embed.detach(),
                                     targets, weight, embed.requires_grad(), text_loss);
}

}  // namespace polyveil::train
