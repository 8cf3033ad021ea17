#include "train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "train/linear.h"
#include "train/rows.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr double kMomentum = 0.95;
constexpr double kBeta1 = 0.9, kBeta2 = 0.98, kEpsilon = 1e-8;

double Squares(const Tensor& x) {
  const double norm = torch::linalg_vector_norm(x, 2).item<double>();
  return norm * norm;
}

}  // namespace

Tensor Orthogonalise(const Tensor& gradient, Precision precision) {
  const bool tall = gradient.size(0) > gradient.size(1);
  Tensor x = tall ? gradient.t().contiguous() : gradient;
  x = x / (x.norm() + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const Tensor a = Product(x, x.t(), precision);
    const Tensor b = Product(a, a, precision).mul_(2.0315).add_(a, -4.7750);
    x = Product(b, x, precision).add_(x, 3.4445);
  }
  return tall ? x.t() : x;
}

void plain::Adam(const AdamStep& step, const Tensor& gradient, Tensor& m, Tensor& v, Tensor& w) {
  const Tensor g = gradient * step.clip;
  m.mul_(step.beta1).add_(g, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(g, g, 1 - step.beta2);
  w.mul_(step.keep).addcdiv_(m, (v * step.root_factor).sqrt_().add_(step.epsilon), -step.rate);
}

double ScheduleFactor(const Schedule& schedule, std::int64_t step, std::int64_t steps) {
  if (step < schedule.warmup) return static_cast<double>(step + 1) / schedule.warmup;
  const double start = static_cast<double>(steps) * (1 - schedule.decay_fraction);
  if (static_cast<double>(step) < start) return 1;
  const double progress =
      (static_cast<double>(step) - start) / std::max(1.0, static_cast<double>(steps) - start);
  return 1 + (schedule.final_fraction - 1) * std::min(1.0, progress);
}

Optimizer::Optimizer(const std::vector<Transformer::Parameter>& parameters,
                     const OptimizerOptions& options, Precision precision)
    : options_(options), precision_(precision) {
  for (const auto& parameter : parameters) {
    Slot slot{parameter, torch::zeros_like(parameter.value.detach()), {}};
    if (!parameter.matrix) slot.second = torch::zeros_like(slot.first);
    slots_.push_back(slot);
  }
}

double Optimizer::Step(double factor) {
  torch::NoGradGuard no_grad;
  double squares = 0;
  for (const Slot& slot : slots_) {
    const Tensor& gradient = slot.parameter.value.grad();
    if (gradient.defined()) squares += Squares(gradient);
  }
  const double norm = std::sqrt(squares);
  const double clip = norm > options_.grad_clip ? options_.grad_clip / norm : 1.0;
  ++steps_done_;
  std::vector<MuonPart> parts;
  for (Slot& slot : slots_) {
    Tensor gradient = slot.parameter.value.grad();
    if (!gradient.defined()) continue;
    if (slot.parameter.matrix) {
      gradient.mul_(clip);
      for (MuonPart& part : PrepareMuon(slot, gradient, factor)) parts.push_back(std::move(part));
    } else {
      StepAdam(slot, gradient.contiguous(), clip, factor);
    }
    slot.parameter.value.mutable_grad() = Tensor();
  }
  StepMuon(parts, factor);
  return norm;
}

std::vector<Optimizer::MuonPart> Optimizer::PrepareMuon(Slot& slot, const Tensor& gradient,
                                                        double factor) {
  slot.first.mul_(kMomentum).add_(gradient);
  const Tensor direction = gradient + kMomentum * slot.first;
  slot.parameter.value.mul_(1 - options_.muon_lr * factor * options_.weight_decay);
  const auto directions = direction.chunk(slot.parameter.parts, 0);
  const auto targets = slot.parameter.value.detach().chunk(slot.parameter.parts, 0);
  std::vector<MuonPart> parts;
  for (std::size_t i = 0; i < targets.size(); ++i) parts.push_back({targets[i], directions[i]});
  return parts;
}

// The matrices are too small to share one among threads, so each thread takes whole ones.
void Optimizer::StepMuon(std::vector<MuonPart>& parts, double factor) {
  const auto count = static_cast<std::int64_t>(parts.size());
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    torch::NoGradGuard no_grad;
    for (std::int64_t i = begin; i < end; ++i) {
      MuonPart& part = parts[static_cast<std::size_t>(i)];
      const double aspect = static_cast<double>(part.target.size(0)) / part.target.size(1);
      part.target.add_(Orthogonalise(part.direction, precision_),
                       -options_.muon_lr * factor * std::sqrt(std::max(1.0, aspect)));
    }
  });
}

void Optimizer::StepAdam(Slot& slot, const Tensor& gradient, double clip, double factor) {
  const double rate = options_.adam_lr * factor, t = static_cast<double>(steps_done_);
  const double decay = slot.parameter.ngrams ? options_.ngram_decay : 0;
  const AdamStep step{clip,
                      kBeta1,
                      kBeta2,
                      1 - rate * decay,
                      rate / (1 - std::pow(kBeta1, t)),
                      1 / (1 - std::pow(kBeta2, t)),
                      kEpsilon};
  Tensor& value = slot.parameter.value;
  if (!gradient.is_cpu()) return plain::Adam(step, gradient, slot.first, slot.second, value);
  const auto run = [&]<typename T>(T) {
    const T* g = gradient.data_ptr<T>();
    T *m = slot.first.data_ptr<T>(), *v = slot.second.data_ptr<T>();
    T* w = value.data_ptr<T>();
    at::parallel_for(0, gradient.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      AdamRow(step, g + begin, m + begin, v + begin, w + begin, end - begin);
    });
  };
  gradient.scalar_type() == torch::kFloat64 ? run(double{}) : run(float{});
}

std::vector<std::pair<std::string, Tensor>> Optimizer::State() const {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const Slot& slot : slots_) {
    state.emplace_back(slot.parameter.name + ".first", slot.first);
    if (slot.second.defined()) state.emplace_back(slot.parameter.name + ".second", slot.second);
  }
  return state;
}

}  // namespace polyveil::train
