#include "train/distil/loss.h"

#include <cmath>

#include "train/distillation.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

// Sum of squares over sum of squares: tokens count by what their layer adds.
Tensor WholeError(const Tensor& x, const Tensor& wanted) {
  return (x - wanted).pow(2).sum() / wanted.pow(2).sum().clamp_min(1e-20);
}

// Mean over tokens of their own ratios: a token with a huge state counts as much as any other.
Tensor TokenError(const Tensor& x, const Tensor& wanted) {
  return ((x - wanted).pow(2).sum(-1) / wanted.pow(2).sum(-1).clamp_min(1e-20)).mean();
}

// 1 - cosine of the means over tokens: what embeddings are compared by.
Tensor PooledError(const Tensor& x, const Tensor& wanted) {
  return (1 - torch::cosine_similarity(x.mean(1), wanted.mean(1), 1)).mean();
}

Tensor Rows(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

Tensor Distribution(const Transformer& teacher, const Transformer& student, const Tensor& wanted,
                    const Tensor& hidden, const Tensor& targets, Tensor* text) {
  return HeadDistillation(Rows(hidden), student.HeadMatrix(), Rows(wanted), teacher.HeadMatrix(),
                          targets.reshape({-1}), 1.0, text, student.precision);
}

// After the final norm, [batch, context, d_model].
Tensor Hidden(const Transformer& model, const Tensor& tokens) {
  return model.Forward(tokens, {}).hidden.view({tokens.size(0), tokens.size(1), -1});
}

// The teacher's residuals behind every block.
std::vector<Tensor> States(const Transformer& teacher, const Tensor& tokens) {
  torch::NoGradGuard no_grad;
  Transformer::Pass pass(teacher);
  std::vector<Tensor> states = {teacher.Embed(tokens)};
  for (int i = 0; i < teacher.shape().n_layers; ++i)
    states.push_back(teacher.Block(i, states.back(), pass));
  return states;
}

}  // namespace

void DistilLoss::Add(const DistilLoss& other) {
  total += other.total;
  kl += other.kl;
  text += other.text;
  pooled += other.pooled;
  hidden += other.hidden;
  penalty += other.penalty;
}

DistilLoss DistilLoss::Over(double count) const {
  const double c = std::max(1.0, count);
  return {total / c, kl / c, text / c, pooled / c, hidden / c, penalty / c};
}

DistilLoss MatchAndBackward(const Transformer& teacher, const Transformer& student,
                            const Batch& batch, const DistilStage& stage) {
  const int n_layers = teacher.shape().n_layers;
  DistilLoss sum;
  Tensor x = teacher.Embed(batch.inputs).detach();
  for (int i = 0; i < n_layers; ++i) {
    Tensor attended, next;
    {
      torch::NoGradGuard no_grad;
      Transformer::Pass pass(teacher);
      next = teacher.Block(i, x, pass, &attended);
    }
    Transformer::Pass pass(student, stage.range);
    const Tensor error = WholeError(student.BehindPrefix(student.Attention(i, x, pass)),
                                    student.BehindPrefix(attended));
    const Tensor& penalty = pass.penalties.total();
    ((error + penalty) / n_layers).backward();
    sum.hidden += error.item<double>() / n_layers;
    sum.penalty += penalty.item<double>() / n_layers;
    x = next;
  }
  sum.total = sum.hidden;
  return sum;
}

DistilLoss DistilAndBackward(const Transformer& teacher, const Transformer& student,
                             const Batch& batch, const DistilStage& stage) {
  const int n_layers = teacher.shape().n_layers;
  const std::vector<Tensor> states = States(teacher, batch.inputs);
  Transformer::Pass pass(student, stage.range);
  Tensor x = student.Embed(batch.inputs);
  Tensor hidden = torch::zeros({}, x.options()), kl = hidden, text = hidden;
  for (int i = 0; i < n_layers; ++i) {
    x = student.Block(i, x, pass);
    if (stage.hidden_weight > 0)
      hidden = hidden + TokenError(student.BehindPrefix(x),
                                   student.BehindPrefix(states[static_cast<std::size_t>(i) + 1])) /
                            n_layers;
  }
  if (student.shape().predicts && stage.kl_weight > 0)
    kl = Distribution(teacher, student, teacher.Finish(states.back()), student.Finish(x),
                      batch.targets, &text);
  Tensor pooled = torch::zeros({}, x.options());
  if (!student.shape().causal && stage.pooled_weight > 0)
    pooled = PooledError(student.Finish(x), teacher.Finish(states.back()));
  const Tensor loss =
      stage.kl_weight * kl + stage.hidden_weight * hidden + stage.pooled_weight * pooled;
  const Tensor& penalty = pass.penalties.total();
  (loss + penalty).backward();
  return {loss.item<double>(),   kl.item<double>(),     text.item<double>(),
          pooled.item<double>(), hidden.item<double>(), penalty.item<double>()};
}

DistilLoss HeldoutLoss(const Transformer& teacher, const Transformer& student,
                       const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  DistilLoss sum;
  for (const Batch& batch : batches) {
    const Tensor wanted = Hidden(teacher, batch.inputs), hidden = Hidden(student, batch.inputs);
    DistilLoss one;
    one.hidden =
        TokenError(student.BehindPrefix(hidden), student.BehindPrefix(wanted)).item<double>();
    one.total = one.hidden;
    if (student.shape().predicts) {
      Tensor text;
      one.kl = Distribution(teacher, student, wanted, hidden, batch.targets, &text).item<double>();
      one.text = text.item<double>();
      one.total = one.kl;
    }
    sum.Add(one);
  }
  return sum.Over(static_cast<double>(batches.size()));
}

}  // namespace polyveil::train
