#include "train/distil/loss.h"

#include <cmath>

#include "train/distillation.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

Tensor Behind(const ReleasedModel& model, const Tensor& x) {
  return x.narrow(1, model.forms.prefix, x.size(1) - model.forms.prefix);
}

// Sum of squares over sum of squares: tokens count by what their layer adds.
Tensor WholeError(const Tensor& x, const Tensor& wanted) {
  return (x - wanted).pow(2).sum() / wanted.pow(2).sum().clamp_min(1e-20);
}

// Mean over tokens of their own ratios: a token with a huge state counts as much as any other.
Tensor TokenError(const Tensor& x, const Tensor& wanted) {
  return ((x - wanted).pow(2).sum(-1) / wanted.pow(2).sum(-1).clamp_min(1e-20)).mean();
}

Tensor Rows(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

const Tensor& HeadOf(const ReleasedModel& model) {
  return model.head.defined() ? model.head : model.token_embedding;
}

Tensor Distribution(const ReleasedModel& teacher, const ReleasedModel& student,
                    const Tensor& wanted, const Tensor& hidden, const Tensor& targets,
                    Tensor* text) {
  return HeadDistillation(Rows(hidden), HeadOf(student), Rows(wanted), HeadOf(teacher),
                          targets.reshape({-1}), 1.0, text);
}

bool IsDecoder(const ReleasedModel& model) {
  return model.architecture().head == model::HeadKind::kCausalLm;
}

// The teacher's residuals behind every block.
std::vector<Tensor> States(const ReleasedModel& teacher, const Tensor& tokens) {
  torch::NoGradGuard no_grad;
  ReleasedModel::Pass pass(teacher);
  std::vector<Tensor> states = {teacher.Embed(tokens)};
  for (int i = 0; i < teacher.architecture().n_layers; ++i)
    states.push_back(teacher.Block(i, states.back(), pass));
  return states;
}

}  // namespace

void DistilLoss::Add(const DistilLoss& other) {
  total += other.total;
  kl += other.kl;
  text += other.text;
  hidden += other.hidden;
  penalty += other.penalty;
}

DistilLoss DistilLoss::Over(double count) const {
  const double c = std::max(1.0, count);
  return {total / c, kl / c, text / c, hidden / c, penalty / c};
}

DistilLoss MatchAndBackward(const ReleasedModel& teacher, const ReleasedModel& student,
                            const Batch& batch, const DistilStage& stage) {
  const int n_layers = teacher.architecture().n_layers;
  DistilLoss sum;
  Tensor x = teacher.Embed(batch.inputs).detach();
  for (int i = 0; i < n_layers; ++i) {
    Tensor attended, next;
    {
      torch::NoGradGuard no_grad;
      ReleasedModel::Pass pass(teacher);
      next = teacher.Block(i, x, pass, &attended);
    }
    ReleasedModel::Pass pass(student, stage.range);
    const Tensor error =
        WholeError(Behind(student, student.Attention(i, x, pass)), Behind(student, attended));
    const Tensor& penalty = pass.penalties.total();
    ((error + penalty) / n_layers).backward();
    sum.hidden += error.item<double>() / n_layers;
    sum.penalty += penalty.item<double>() / n_layers;
    x = next;
  }
  sum.total = sum.hidden;
  return sum;
}

DistilLoss DistilAndBackward(const ReleasedModel& teacher, const ReleasedModel& student,
                             const Batch& batch, const DistilStage& stage) {
  const int n_layers = teacher.architecture().n_layers;
  const std::vector<Tensor> states = States(teacher, batch.inputs);
  ReleasedModel::Pass pass(student, stage.range);
  Tensor x = student.Embed(batch.inputs);
  Tensor hidden = torch::zeros({}, x.options()), kl = hidden, text = hidden;
  for (int i = 0; i < n_layers; ++i) {
    x = student.Block(i, x, pass);
    if (stage.hidden_weight > 0)
      hidden = hidden + TokenError(Behind(student, x),
                                   Behind(student, states[static_cast<std::size_t>(i) + 1])) /
                            n_layers;
  }
  if (IsDecoder(student) && stage.kl_weight > 0)
    kl = Distribution(teacher, student, teacher.Finish(states.back()), student.Finish(x),
                      batch.targets, &text);
  const Tensor loss = stage.kl_weight * kl + stage.hidden_weight * hidden;
  const Tensor& penalty = pass.penalties.total();
  (loss + penalty).backward();
  return {loss.item<double>(), kl.item<double>(), text.item<double>(), hidden.item<double>(),
          penalty.item<double>()};
}

DistilLoss HeldoutLoss(const ReleasedModel& teacher, const ReleasedModel& student,
                       const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  DistilLoss sum;
  for (const Batch& batch : batches) {
    const Tensor wanted = teacher.Hidden(batch.inputs), hidden = student.Hidden(batch.inputs);
    DistilLoss one;
    one.hidden = TokenError(Behind(student, hidden), Behind(student, wanted)).item<double>();
    one.total = one.hidden;
    if (IsDecoder(student)) {
      Tensor text;
      one.kl = Distribution(teacher, student, wanted, hidden, batch.targets, &text).item<double>();
      one.text = text.item<double>();
      one.total = one.kl;
    }
    sum.Add(one);
  }
  return sum.Over(static_cast<double>(batches.size()));
}

ConversionEffect DistilEffect(const ReleasedModel& model, const std::vector<Batch>& batches) {
  torch::NoGradGuard no_grad;
  ReleasedModel parent = model;  // shares the weights
  parent.polynomials.reset();
  ConversionEffect effect;
  double counted = 0;
  for (const Batch& batch : batches) {
    const std::int64_t behind = batch.inputs.size(1) - model.forms.prefix;
    Tensor escaped = torch::zeros({batch.inputs.size(0), behind}, torch::kBool);
    const auto mark = [&](const std::string& site, const Tensor& outside) {
      escaped.logical_or_(MarkedPositions(site, outside));
    };
    ReleasedModel::Pass pass(model, {}, EscapeCounter(*model.polynomials, effect.escapes, mark));
    const Tensor hidden = model.Hidden(batch.inputs, pass);
    effect.escapes.positions += static_cast<std::uint64_t>(escaped.numel());
    if (!IsDecoder(model)) continue;
    const auto distribution = [&](const Tensor& states) {
      return torch::log_softmax(model.Logits(Rows(Behind(model, states))).to(torch::kFloat64), 1);
    };
    const Tensor p = distribution(parent.Hidden(batch.inputs)), q = distribution(hidden);
    const Tensor index = Behind(model, batch.targets).reshape({-1, 1});
    effect.parent_nats -= p.gather(1, index).sum().item<double>();
    effect.polynomial_nats -= q.gather(1, index).sum().item<double>();
    counted += static_cast<double>(index.numel());
    const Tensor kl = (p.exp() * (p - q)).sum(1), differs = p.argmax(1) != q.argmax(1);
    AddChange(effect.all, kl, differs);
    const Tensor there = escaped.view(-1).nonzero().view(-1);
    AddChange(effect.at_escapes, kl.index_select(0, there), differs.index_select(0, there));
  }
  effect.parent_nats /= std::max(1.0, counted);
  effect.polynomial_nats /= std::max(1.0, counted);
  return effect;
}

}  // namespace polyveil::train
