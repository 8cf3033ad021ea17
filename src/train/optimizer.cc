#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr double kMomentum = 0.95;
constexpr double kBeta1 = 0.9, kBeta2 = 0.98, kEpsilon = 1e-8;

}  // namespace

Tensor Orthogonalise(const Tensor& gradient) {
  const bool tall = gradient.size(0) > gradient.size(1);
  Tensor x = tall ? gradient.t() : gradient;
  x = x / (x.norm() + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const Tensor a = torch::mm(x, x.t());
    const Tensor b = torch::addmm(a, a, a, -4.7750, 2.0315);
    x = torch::addmm(x, b, x, 3.4445, 1.0);
  }
  return tall ? x.t() : x;
}

double ScheduleFactor(const OptimizerOptions& options, std::int64_t step, std::int64_t steps) {
  if (step < options.warmup) return static_cast<double>(step + 1) / options.warmup;
  const double start = static_cast<double>(steps) * (1 - options.decay_fraction);
  if (static_cast<double>(step) < start) return 1;
  const double progress =
      (static_cast<double>(step) - start) / std::max(1.0, static_cast<double>(steps) - start);
  return 1 + (options.final_fraction - 1) * std::min(1.0, progress);
}

Optimizer::Optimizer(const std::vector<Transformer::Parameter>& parameters,
                     const OptimizerOptions& options)
    : options_(options) {
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
    if (gradient.defined()) squares += gradient.pow(2).sum().item<double>();
  }
  const double norm = std::sqrt(squares);
  const double clip = norm > options_.grad_clip ? options_.grad_clip / norm : 1.0;
  ++steps_done_;
  for (Slot& slot : slots_) {
    Tensor gradient = slot.parameter.value.grad();
    if (!gradient.defined()) continue;
    gradient.mul_(clip);
    slot.parameter.matrix ? StepMuon(slot, gradient, factor) : StepAdam(slot, gradient, factor);
    slot.parameter.value.mutable_grad() = Tensor();
  }
  return norm;
}

void Optimizer::StepMuon(Slot& slot, const Tensor& gradient, double factor) {
  const double rate = options_.muon_lr * factor;
  slot.first.mul_(kMomentum).add_(gradient);
  const Tensor direction = gradient + kMomentum * slot.first;
  slot.parameter.value.mul_(1 - rate * options_.weight_decay);
  const auto parts = direction.chunk(slot.parameter.parts, 0);
  auto targets = slot.parameter.value.chunk(slot.parameter.parts, 0);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double aspect = static_cast<double>(parts[i].size(0)) / parts[i].size(1);
    targets[i].add_(Orthogonalise(parts[i]), -rate * std::sqrt(std::max(1.0, aspect)));
  }
}

void Optimizer::StepAdam(Slot& slot, const Tensor& gradient, double factor) {
  const double rate = options_.adam_lr * factor, t = static_cast<double>(steps_done_);
  slot.first.mul_(kBeta1).add_(gradient, 1 - kBeta1);
  slot.second.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
  const Tensor root = (slot.second / (1 - std::pow(kBeta2, t))).sqrt().add_(kEpsilon);
  slot.parameter.value.addcdiv_(slot.first, root, -rate / (1 - std::pow(kBeta1, t)));
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
