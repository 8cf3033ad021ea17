#include "train/cross_entropy.h"

#include <algorithm>

namespace polyveil::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr std::int64_t kRows = 512;  // of logits at a time: 8 MB at a vocabulary of 4096

// Log-probabilities' normaliser subtracted: returns the rows' losses; logits become probabilities.
Tensor RowLosses(Tensor& logits, const Tensor& targets, const Tensor& counted) {
  logits.sub_(logits.amax(1, true));
  const Tensor index = targets.clamp_min(0).unsqueeze(1);
  const Tensor picked = logits.gather(1, index).squeeze(1);
  logits.exp_();
  const Tensor sums = logits.sum(1, true);
  logits.div_(sums);
  return (sums.squeeze(1).log() - picked) * counted;
}

struct HeadFunction : torch::autograd::Function<HeadFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& embed,
                        const Tensor& targets) {
    Tensor d_hidden = torch::empty_like(hidden), d_embed = torch::zeros_like(embed);
    const Tensor counted = (targets >= 0).to(hidden.scalar_type());
    const double scale = 1.0 / std::max(1.0, counted.sum().item<double>());
    Tensor loss = torch::zeros({}, hidden.options());
    for (std::int64_t at = 0; at < hidden.size(0); at += kRows) {
      const std::int64_t rows = std::min(kRows, hidden.size(0) - at);
      const Tensor h = hidden.narrow(0, at, rows), t = targets.narrow(0, at, rows);
      const Tensor mask = counted.narrow(0, at, rows);
      Tensor logits = torch::mm(h, embed.t());
      loss += RowLosses(logits, t, mask).sum();
      logits.scatter_add_(1, t.clamp_min(0).unsqueeze(1),
                          torch::full({rows, 1}, -1.0, h.options()));
      logits.mul_((mask * scale).unsqueeze(1));
      Tensor d_rows = d_hidden.narrow(0, at, rows);
      torch::mm_out(d_rows, logits, embed);
      d_embed.addmm_(logits.t(), h);
    }
    ctx->save_for_backward({d_hidden, d_embed});
    return loss * scale;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {saved[0] * grads[0], saved[1] * grads[0], Tensor()};
  }
};

}  // namespace

Tensor HeadCrossEntropy(const Tensor& hidden, const Tensor& embed, const Tensor& targets) {
  return HeadFunction::apply(hidden, embed, targets);
}

LossSum HeadLossSum(const Tensor& hidden, const Tensor& embed, const Tensor& targets) {
  torch::NoGradGuard no_grad;
  LossSum sum;
  for (std::int64_t at = 0; at < hidden.size(0); at += kRows) {
    const std::int64_t rows = std::min(kRows, hidden.size(0) - at);
    const Tensor t = targets.narrow(0, at, rows);
    const Tensor counted = (t >= 0).to(hidden.scalar_type());
    Tensor logits = torch::mm(hidden.narrow(0, at, rows), embed.t());
    sum.nats += RowLosses(logits, t, counted).sum().item<double>();
    sum.count += counted.sum().item<std::int64_t>();
  }
  return sum;
}

}  // namespace polyveil::train
