#include "runtime/engine_machine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "circuits/band_products.h"
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
  std::vector<Value> adjusted(inputs.size());
  std::vector<const Value*> operands(inputs.begin(), inputs.end());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int level = node.level + compile::Depth(node, i);
    if (inputs[i]->level == level) continue;
    PV_ASSIGN_OR_RETURN(adjusted[i], At(*inputs[i], level));
    operands[i] = &adjusted[i];
  }
  PV_ASSIGN_OR_RETURN(Value result, Dispatch(node, operands));
  PV_CHECK(result.level == node.level, "{}: level {}, planned {}", node.name, result.level,
           node.level);
  return result;
}

Result<Value> EngineMachine::Dispatch(const Node& node, std::span<const Value* const> inputs) {
  const ckks::Evaluator& evaluator = parts_.evaluator;
  const Value &a = *inputs[0], *const b = inputs.size() > 1 ? inputs[1] : nullptr;
  switch (node.kind) {
    case OpKind::kMulPlain:
      return MulPlain(node, a);
    case OpKind::kMulSum:
      return MulSum(node, inputs);
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
  WeightStore::Transform transform = node.reused >= 0 ? std::move(map_) : nullptr;
  if (!transform || transform->level() != a.level) {
    PV_ASSIGN_OR_RETURN(transform,
                        parts_.weights->TransformOf(*node.linear, a.level, a.scale,
                                                    params().scale(node.level), latency_));
  }
  map_ = node.kept >= 0 ? transform : nullptr;
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  return transform->Apply(parts_.evaluator, a);
}

Result<Value> EngineMachine::MulSum(const Node& node, std::span<const Value* const> inputs) {
  const ckks::Evaluator& evaluator = parts_.evaluator;
  Value moved = *inputs[0];
  PV_ASSIGN_OR_RETURN(Value sum, evaluator.MulNoRelin(moved, *inputs[1]));
  for (const Value* const factor : inputs.subspan(2)) {
    PV_ASSIGN_OR_RETURN(moved, Rotated(moved, node.step));
    Stopwatch watch(*this, compile::OpKindName(node.kind));
    PV_RETURN_IF_ERROR(evaluator.MulAccumulateNoRelin(sum, moved, *factor));
  }
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  return evaluator.RelinearizeRescale(sum);
}

// Rotations of a band's operand inside a group, in their order: hoisted from a few of them.
class EngineMachine::Fan {
 public:
  explicit Fan(EngineMachine& machine) : machine_(machine) {}

  // What stands j steps on; base: steps.Base(j) steps on.
  Result<Value> Rotated(const Value& base, const compile::BandSteps& steps, int j, int step) {
    const int apart = j - steps.Base(j);
    Stopwatch watch(machine_, compile::OpKindName(OpKind::kRotate));
    const ckks::Evaluator& evaluator = machine_.parts_.evaluator;
    if (apart == 1) {
      PV_ASSIGN_OR_RETURN(digits_, evaluator.Decompose(base, base.level));
    }
    return evaluator.RotateHoisted(base, digits_, apart * step);
  }

 private:
  EngineMachine& machine_;
  ckks::HoistedDigits digits_;
};

// A band's operand that is rotated once a term, from the last group of terms to the first.
class EngineMachine::Steps {
 public:
  // kept: by term, what a band before rotated or one behind needs; null: neither.
  Steps(EngineMachine& machine, const Value& value, const compile::BandSteps& steps,
        std::map<int, Value>* kept)
      : machine_(machine), value_(value), steps_(steps), kept_(kept) {}

  // Of `count` terms of a group; there until the next one is asked for.
  Result<std::vector<const Value*>> Group(int group, int count) {
    own_.clear();
    std::map<int, Value>& there = kept_ != nullptr ? *kept_ : own_;
    std::vector<const Value*> values;
    for (int j = 0; j < count; ++j) {
      const int term = group * steps_.size + j;
      if (!there.contains(term)) {
        PV_ASSIGN_OR_RETURN(Value next, Next(group, j, there));
        there.emplace(term, std::move(next));
      }
      values.push_back(&there.at(term));
    }
    return values;
  }

 private:
  Result<Value> Next(int group, int j, const std::map<int, Value>& there) {
    if (j > 0)
      return fan_.Rotated(there.at(group * steps_.size + steps_.Base(j)), steps_, j, steps_.each);
    const bool last = group == steps_.groups - 1;
    PV_ASSIGN_OR_RETURN(
        first_, machine_.Rotated(last ? value_ : first_, last ? steps_.last : steps_.between));
    return first_;
  }

  EngineMachine& machine_;
  const Value& value_;
  const compile::BandSteps& steps_;
  Fan fan_{machine_};
  Value first_;
  std::map<int, Value>* const kept_;
  std::map<int, Value> own_;
};

Result<Value> EngineMachine::Rotated(const Value& value, int rotation) {
  if (rotation % params().slots() == 0) return value;
  Stopwatch watch(*this, compile::OpKindName(OpKind::kRotate));
  return parts_.evaluator.Rotate(value, rotation);
}

std::map<int, Value>* EngineMachine::KeptSteps(const Node& node) {
  if (node.reused < 0) steps_.clear();
  return node.kept >= 0 || node.reused >= 0 ? &steps_ : nullptr;
}

// Terms first .. first + count - 1, entry s of each from its entry s - shift.
Result<std::vector<circuits::CompactPlaintext>> EngineMachine::EncodeTerms(
    const compile::LinearMap& map, int first, int count, int shift, int level, double scale) {
  const compile::MapDiagonals diagonals = parts_.model->Diagonals(map);
  Stopwatch watch(*this, "encode");
  std::vector<std::optional<Result<circuits::CompactPlaintext>>> made(static_cast<size_t>(count));
  ParallelFor(made.size(), [&](size_t i) {
    const auto diagonal = diagonals.Term(first + static_cast<int>(i));
    std::vector<compile::Complex> moved(diagonal.size());
    for (size_t s = 0; s < moved.size(); ++s)
      moved[s] = diagonal[(s - static_cast<size_t>(shift)) & (moved.size() - 1)];
    made[i] = circuits::CompactPlaintext::Create(parts_.encoder, moved, level, scale);
  });
  std::vector<circuits::CompactPlaintext> plains;
  for (auto& one : made) {
    PV_ASSIGN_OR_RETURN(circuits::CompactPlaintext plain, std::move(*one));
    plains.push_back(std::move(plain));
  }
  return plains;
}

// As compile::BandSteps says.
Result<Value> EngineMachine::Band(const Node& node, const Value& a, const Value& b) {
  const compile::LinearMap& map = *node.linear;
  const compile::BandSteps steps(node);
  const ckks::Evaluator& evaluator = parts_.evaluator;
  const auto dropped = [&](int level) {
    return static_cast<double>(params().q(params().limbs(level) - 1).q);
  };
  // What makes the result's scale, or each rescaled product's, nominal.
  const double scale = map.by_term ? params().scale(a.level - 1) / a.scale * dropped(a.level)
                                   : params().scale(node.level) / (a.scale * b.scale) *
                                         dropped(a.level) * dropped(a.level - 1);
  Steps whole(*this, steps.whole == 0 ? a : b, steps, KeptSteps(node));
  std::vector<Value> babies = {steps.whole == 0 ? b : a};
  Fan fan(*this);
  for (int j = 1; j < std::min(steps.size, steps.terms); ++j) {
    PV_ASSIGN_OR_RETURN(
        Value next, fan.Rotated(babies[static_cast<size_t>(steps.Base(j))], steps, j, steps.baby));
    babies.push_back(std::move(next));
  }
  std::vector<const Value*> baby_steps;
  for (const Value& baby : babies) baby_steps.push_back(&baby);
  std::optional<Value> result;
  for (int g = steps.groups - 1; g >= 0; --g) {
    const int first = g * steps.size, count = std::min(steps.size, steps.terms - first);
    PV_ASSIGN_OR_RETURN(const auto plains,
                        EncodeTerms(map, first, count, steps.Shift(g), a.level, scale));
    PV_ASSIGN_OR_RETURN(const auto moved, whole.Group(g, count));
    const auto babies_of_group = std::span(baby_steps).first(static_cast<size_t>(count));
    PV_ASSIGN_OR_RETURN(const Value products,
                        steps.whole == 0 ? Products(map, moved, plains, scale, babies_of_group)
                                         : Products(map, babies_of_group, plains, scale, moved));
    PV_ASSIGN_OR_RETURN(Value sum, evaluator.Relinearize(products));
    if (!result) {
      result = std::move(sum);
      continue;
    }
    PV_ASSIGN_OR_RETURN(result, Rotated(*result, steps.group));
    PV_RETURN_IF_ERROR(evaluator.AddInplace(*result, sum));
  }
  if (node.kept < 0) steps_.clear();
  PV_ASSIGN_OR_RETURN(result, Rotated(*result, steps.all));
  Stopwatch watch(*this, compile::OpKindName(node.kind));
  while (result->level > node.level) PV_RETURN_IF_ERROR(evaluator.RescaleInplace(*result));
  return std::move(*result);
}

// sum_i (plain_i a_i) b_i, before relinearisation.
Result<Value> EngineMachine::Products(const compile::LinearMap& map,
                                      std::span<const Value* const> a,
                                      std::span<const circuits::CompactPlaintext> plains,
                                      double scale, std::span<const Value* const> b) {
  const ckks::Evaluator& evaluator = parts_.evaluator;
  Stopwatch watch(*this, compile::OpKindName(OpKind::kBand));
  if (!map.by_term) return circuits::MultiplyBand(evaluator, a, plains, scale, b);
  std::optional<Value> sum;
  for (size_t i = 0; i < a.size(); ++i) {
    PV_ASSIGN_OR_RETURN(Value factor,
                        evaluator.MulPlain(*a[i], plains[i].Expand(params(), a[i]->level, scale)));
    PV_RETURN_IF_ERROR(evaluator.RescaleInplace(factor));
    if (sum) {
      PV_RETURN_IF_ERROR(evaluator.MulAccumulateNoRelin(*sum, factor, *b[i]));
    } else {
      PV_ASSIGN_OR_RETURN(sum, evaluator.MulNoRelin(factor, *b[i]));
    }
  }
  return std::move(*sum);
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
