#include "runtime/engine_machine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "circuits/chebyshev.h"
#include "compile/levels.h"

namespace polyveil::runtime {

using compile::Node;
using compile::OpKind;
using Value = ckks::Ciphertext;

class EngineMachine::Stopwatch {
 public:
  Stopwatch(EngineMachine& machine, const char* primitive)
      : latency_(machine.latency_), primitive_(primitive) {}
  ~Stopwatch() {
    if (latency_ != nullptr) latency_->AddPrimitive(primitive_, timer_.Seconds());
  }

 private:
  LatencyTable* latency_;
  const char* primitive_;
  Timer timer_;
};

Result<Value> EngineMachine::Load(const Node& node, const Value* value) {
  return value != nullptr ? At(*value, node.level) : Trivial({}, node.level);
}

Result<Value> EngineMachine::Trivial(const std::vector<compile::Complex>& slots, int level) {
  Value zero;
  const size_t limbs = params().limbs(level), n = params().n();
  zero.parts.push_back(ring::RnsPoly::Zero(limbs, n));
  zero.parts.push_back(ring::RnsPoly::Zero(limbs, n));
  zero.level = level;
  zero.scale = params().scale(level);
  if (slots.empty()) return zero;
  PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain, Encode(slots, level, zero.scale));
  return parts_.evaluator.AddPlain(zero, plain);
}

Result<Value> EngineMachine::Execute(const Node& node, std::span<const Value* const> inputs) {
  if (node.kind == OpKind::kBootstrap) return Bootstrap(node, *inputs[0]);
  if (node.kind == OpKind::kChangeUnit) return ChangeUnit(node, *inputs[0]);
  // Operands already at the level are used in place; AdjustTo copies.
  Value adjusted[2];
  const Value* operands[2] = {nullptr, nullptr};
  for (size_t i = 0; i < inputs.size(); ++i) {
    operands[i] = inputs[i];
    const int level = node.level + compile::Depth(node, i);
    if (inputs[i]->level == level) continue;
    PV_ASSIGN_OR_RETURN(adjusted[i], At(*inputs[i], level));
    operands[i] = &adjusted[i];
  }
  PV_ASSIGN_OR_RETURN(Value result, Dispatch(node, *operands[0], operands[1]));
  PV_CHECK(result.level == node.level, "{}: level {}, planned {}", node.name, result.level,
           node.level);
  return result;
}

Result<Value> EngineMachine::Dispatch(const Node& node, const Value& a, const Value* b) {
  const ckks::Evaluator& evaluator = parts_.evaluator;
  switch (node.kind) {
    case OpKind::kMulPlain:
      return MulPlain(node, a);
    case OpKind::kLinear:
      return Linear(node, a);
    case OpKind::kBand:
      return Band(node, a, *b);
    case OpKind::kAddPlain:
      return AddPlain(node, a);
    case OpKind::kRotateSum:
      return RotateSum(node, a);
    default:
      break;
  }
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  switch (node.kind) {
    case OpKind::kAdd:
      return evaluator.Add(a, *b);
    case OpKind::kSub:
      return evaluator.Sub(a, *b);
    case OpKind::kMul:
      return evaluator.MulRescale(a, *b);
    case OpKind::kSquare:
      return evaluator.SquareRescale(a);
    case OpKind::kMulByI:
      return evaluator.MulByI(a);
    case OpKind::kRotate:
      return evaluator.Rotate(a, node.rotations[0]);
    case OpKind::kConjugate:
      return evaluator.Conjugate(a);
    case OpKind::kChebyshev:
      return circuits::EvaluateChebyshev(evaluator, a, node.coeffs, params().scale(node.level));
    case OpKind::kRescaleUnit: {
      const std::int64_t integer = compile::IntegerPart(node.factor);
      Value result = integer == 1 ? a : evaluator.MulInteger(a, integer);
      result.scale /= node.factor / static_cast<double>(integer);
      return result;
    }
    default:
      PV_CHECK(false, "{}: operation {}", node.name, compile::OpKindName(node.kind));
  }
}

Result<Value> EngineMachine::At(const Value& value, int level) {
  Stopwatch watch(*this, "adjust level");
  return parts_.evaluator.AdjustTo(value, level, params().scale(level));
}

Result<ckks::Plaintext> EngineMachine::Encode(const std::vector<compile::Complex>& values,
                                              int level, double scale) {
  Stopwatch watch(*this, "encode");
  return parts_.encoder.Encode(std::span<const compile::Complex>(values), level, scale);
}

Result<Value> EngineMachine::MulPlain(const Node& node, const Value& a) {
  // The plaintext's scale makes the product's nominal after the rescale.
  const double dropped = static_cast<double>(params().q(params().limbs(a.level) - 1).q);
  const double scale = params().scale(node.level) / a.scale * dropped;
  WeightStore::Factor factor;
  if (node.linear) {
    PV_ASSIGN_OR_RETURN(factor, parts_.weights->FactorOf(*node.linear, a.level, scale, latency_));
  } else {
    PV_ASSIGN_OR_RETURN(ckks::Plaintext plain, Encode(node.constant, a.level, scale));
    factor = std::make_shared<const ckks::Plaintext>(std::move(plain));
  }
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  PV_ASSIGN_OR_RETURN(Value product, parts_.evaluator.MulPlain(a, *factor));
  PV_RETURN_IF_ERROR(parts_.evaluator.RescaleInplace(product));
  return product;
}

Result<Value> EngineMachine::Linear(const Node& node, const Value& a) {
  PV_ASSIGN_OR_RETURN(const auto transform,
                      parts_.weights->TransformOf(*node.linear, a.level, a.scale,
                                                  params().scale(node.level), latency_));
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  return transform->Apply(parts_.evaluator, a);
}

// A value rotated by at * step for at = 0, 1, .. and then -1, -2, ..: each from the one before.
class EngineMachine::Steps {
 public:
  Steps(EngineMachine& machine, const Value& value, int step, int cycle)
      : machine_(machine), value_(value), step_(step), cycle_(cycle), last_(value) {}

  Result<const Value*> At(int at) {
    if (cycle_ > 0) return Cyclic((at % cycle_ + cycle_) % cycle_);
    if (at == 0 || at == -1) last_ = value_;
    if (at != 0) {
      PV_ASSIGN_OR_RETURN(last_, Rotated(last_, at > 0 ? step_ : -step_));
    }
    return &last_;
  }

 private:
  Result<const Value*> Cyclic(int at) {
    if (kept_.empty()) kept_.push_back(value_);
    while (kept_.size() <= static_cast<size_t>(at)) {
      PV_ASSIGN_OR_RETURN(Value next, Rotated(kept_.back(), step_));
      kept_.push_back(std::move(next));
    }
    return &kept_[static_cast<size_t>(at)];
  }
  Result<Value> Rotated(const Value& value, int step) {
    Stopwatch watch(machine_, compile::OpKindName(OpKind::kRotate));
    return machine_.parts_.evaluator.Rotate(value, step);
  }

  EngineMachine& machine_;
  const Value& value_;
  const int step_, cycle_;  // 0: what was rotated is not needed again
  Value last_;
  std::vector<Value> kept_;
};

Result<std::vector<ckks::Plaintext>> EngineMachine::EncodeTerms(const compile::LinearMap& map,
                                                                std::span<const int> terms,
                                                                int level, double scale) {
  const compile::MapDiagonals diagonals = parts_.model->Diagonals(map);
  Stopwatch watch(*this, "encode");
  std::vector<std::optional<Result<ckks::Plaintext>>> made(terms.size());
  ParallelFor(terms.size(), [&](size_t i) {
    const auto diagonal = diagonals.Term(terms[i] - map.first);
    made[i] = parts_.encoder.Encode(std::span<const compile::Complex>(diagonal), level, scale);
  });
  std::vector<ckks::Plaintext> plains;
  for (auto& one : made) {
    PV_ASSIGN_OR_RETURN(ckks::Plaintext plain, std::move(*one));
    plains.push_back(std::move(plain));
  }
  return plains;
}

Result<Value> EngineMachine::Band(const Node& node, const Value& a, const Value& b) {
  constexpr size_t kTogether = 16;  // diagonals
  const compile::LinearMap& map = *node.linear;
  const ckks::Evaluator& evaluator = parts_.evaluator;
  const double dropped = static_cast<double>(params().q(params().limbs(a.level) - 1).q);
  const double scale = params().scale(a.level - 1) / a.scale * dropped;
  const int cycle = map.Cycle(params().slots());
  Steps left(*this, a, map.stride, cycle <= map.terms ? cycle : 0), right(*this, b, map.other, 0);
  std::vector<int> terms;
  for (int at = 0; at < map.first + map.terms; ++at) terms.push_back(at);
  for (int at = -1; at >= map.first; --at) terms.push_back(at);
  std::optional<Value> sum;
  std::vector<ckks::Plaintext> plains;
  for (size_t i = 0; i < terms.size(); ++i) {
    if (i % kTogether == 0) {
      const size_t count = std::min(kTogether, terms.size() - i);
      PV_ASSIGN_OR_RETURN(plains,
                          EncodeTerms(map, std::span(terms).subspan(i, count), a.level, scale));
    }
    PV_ASSIGN_OR_RETURN(const Value* const moved, left.At(terms[i]));
    PV_ASSIGN_OR_RETURN(const Value* const other, right.At(terms[i]));
    Stopwatch watch(*this, compile::OpKindName(node.kind));
    PV_ASSIGN_OR_RETURN(Value factor, evaluator.MulPlain(*moved, plains[i % kTogether]));
    PV_RETURN_IF_ERROR(evaluator.RescaleInplace(factor));
    if (sum) {
      PV_RETURN_IF_ERROR(evaluator.MulAccumulateNoRelin(*sum, factor, *other));
    } else {
      PV_ASSIGN_OR_RETURN(sum, evaluator.MulNoRelin(factor, *other));
    }
  }
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  return evaluator.RelinearizeRescale(*sum);
}

Result<Value> EngineMachine::AddPlain(const Node& node, const Value& a) {
  if (node.constant.size() == 1) {
    Stopwatch watch(*this, compile::OpKindName(node.kind));
    return parts_.evaluator.AddConstant(a, node.constant[0]);
  }
  PV_ASSIGN_OR_RETURN(ckks::Plaintext plain, Encode(node.constant, a.level, a.scale));
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  return parts_.evaluator.AddPlain(a, plain);
}

Result<Value> EngineMachine::RotateSum(const Node& node, const Value& a) {
  Value sum = a;
  for (int rotation : node.rotations) {
    Stopwatch watch(*this, compile::OpKindName(OpKind::kRotate));
    PV_ASSIGN_OR_RETURN(Value rotated, parts_.evaluator.Rotate(sum, rotation));
    PV_RETURN_IF_ERROR(parts_.evaluator.AddInplace(sum, rotated));
  }
  return sum;
}

Result<Value> EngineMachine::ChangeUnit(const Node& node, const Value& a) {
  Value declared = a;
  declared.scale /= node.factor;
  return At(declared, node.level);
}

Result<Value> EngineMachine::Bootstrap(const Node& node, const Value& a) {
  const auto bootstrapper = parts_.bootstrappers.find({node.log_period, !node.real});
  PV_CHECK(bootstrapper != parts_.bootstrappers.end(), "{}: no bootstrapper", node.name);
  circuits::BootstrapTimes times;
  PV_ASSIGN_OR_RETURN(Value fresh, bootstrapper->second->Bootstrap(parts_.evaluator, a, &times));
  if (latency_ != nullptr) {
    latency_->AddPrimitive("bootstrap: slots to coefficients", times.stc);
    latency_->AddPrimitive("bootstrap: raise modulus", times.mod_raise);
    latency_->AddPrimitive("bootstrap: trace", times.trace);
    latency_->AddPrimitive("bootstrap: coefficients to slots", times.cts);
    latency_->AddPrimitive("bootstrap: reduce modulo q0", times.eval_mod);
  }
  if (fresh.level == node.level) return fresh;
  return At(fresh, node.level);
}

}  // namespace polyveil::runtime
