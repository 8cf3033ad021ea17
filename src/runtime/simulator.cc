#include "runtime/simulator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/worst.h"
#include "runtime/interpreter.h"

namespace polyveil::runtime {

using compile::Complex;
using compile::Node;
using compile::OpKind;
using Slots = std::vector<Complex>;

namespace {

template <typename F>
Slots Zip(const Slots& a, const Slots& b, F f) {
  Slots result(std::max(a.size(), b.size()));
  for (size_t i = 0; i < result.size(); ++i)
    result[i] = f(a[i & (a.size() - 1)], b[i & (b.size() - 1)]);
  return result;
}

template <typename F>
Slots Map(const Slots& a, F f) {
  Slots result(a.size());
  std::transform(a.begin(), a.end(), result.begin(), f);
  return result;
}

Slots Rotated(const Slots& a, int rotation) {
  Slots result(a.size());
  const size_t mask = a.size() - 1;
  for (size_t i = 0; i < a.size(); ++i) result[i] = a[(i + rotation) & mask];
  return result;
}

void AddRotated(Slots& a, int rotation) {
  const size_t mask = a.size() - 1, shift = static_cast<size_t>(rotation) & mask;
  Slots result(a.size());
  for (size_t i = 0; i < a.size() - shift; ++i) result[i] = a[i] + a[i + shift];
  for (size_t i = a.size() - shift; i < a.size(); ++i) result[i] = a[i] + a[i + shift - a.size()];
  a = std::move(result);
}

Complex Clenshaw(const std::vector<double>& coeffs, Complex u) {
  Complex next = 0, after = 0;
  for (size_t k = coeffs.size(); k-- > 1;)
    after = std::exchange(next, coeffs[k] + 2.0 * u * next - after);
  return coeffs[0] + u * next - after;
}

Complex Product(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

double Largest(const Slots& a) {
  double largest = 0;
  for (Complex v : a) largest = Worse(largest, Worse(std::abs(v.real()), std::abs(v.imag())));
  return largest;
}

// Noise that grows with a value: none stays none, whatever has left its interval and overflowed.
double Scaled(double noise, double magnitude) { return noise == 0 ? 0 : noise * magnitude; }

// A cheap normal sample: sum of four uniform 16-bit parts of one word, variance 1.
double Normal(std::mt19937_64& random) {
  const std::uint64_t word = random();
  const double sum = static_cast<double>((word & 0xffff) + (word >> 16 & 0xffff) +
                                         (word >> 32 & 0xffff) + (word >> 48));
  return (sum - 2 * 65535.0) * (1.7320508075688772 / 65536);
}

struct NoListener {
  Status Before(const Node&) { return {}; }
  void After(const Node&, double) {}
};

}  // namespace

class SimulatorMachine {
 public:
  using Value = Slots;

  SimulatorMachine(Simulator& simulator, const compile::CompiledProgram& program)
      : sim_(simulator), program_(program), noise_(simulator.noise_) {}

  Result<Value> Load(const Node& node, const Value* value) {
    Value result = value == nullptr ? Value(1) : *value;
    if (node.kind == OpKind::kInput) {
      if (KeepsAll()) result = Zip(result, Value(AllSlots()), [](Complex x, Complex) { return x; });
      Disturb(result, noise_.fresh);
    }
    return Observed(node, std::move(result));
  }

  Result<Value> Execute(const Node& node, std::span<const Value* const> inputs) {
    const Value none;
    Value result = node.kind == OpKind::kMulSum
                       ? MulSum(node, inputs)
                       : Dispatch(node, *inputs[0], inputs.size() > 1 ? *inputs[1] : none);
    const size_t period = size_t{1} << node.log_period;
    if (!KeepsAll() && result.size() > period) result.resize(period);
    return Observed(node, std::move(result));
  }

 private:
  bool KeepsAll() const { return sim_.slots_ == SimulatedSlots::kAll; }
  size_t AllSlots() const { return static_cast<size_t>(program_.params()->slots()); }

  Value Dispatch(const Node& node, const Value& a, const Value& b) {
    switch (node.kind) {
      case OpKind::kAdd:
        return Zip(a, b, [](Complex x, Complex y) { return x + y; });
      case OpKind::kSub:
        return Zip(a, b, [](Complex x, Complex y) { return x - y; });
      case OpKind::kMul:
        return Noisy(Zip(a, b, Product), Products(Largest(a) + Largest(b)));
      case OpKind::kSquare:
        return Noisy(Zip(a, a, Product), Products(2 * Largest(a)));
      case OpKind::kMulPlain:
        return Noisy(
            Zip(a, node.linear ? program_.Diagonals(*node.linear).Term(0) : node.constant, Product),
            std::hypot(noise_.rescale, Scaled(noise_.encode, Largest(a))));
      case OpKind::kLinear:
        return Linear(node, a);
      case OpKind::kBand:
        return Band(node, a, b);
      case OpKind::kAddPlain:
        return Zip(a, node.constant, [](Complex x, Complex y) { return x + y; });
      case OpKind::kMulByI:
        return Map(a, [](Complex x) { return Complex(-x.imag(), x.real()); });
      case OpKind::kRotate:
        return Noisy(Rotated(a, node.rotations[0]), noise_.key_switch);
      case OpKind::kRotateSum:
        return RotateSum(node, a);
      case OpKind::kConjugate:
        return Noisy(Map(a, [](Complex x) { return std::conj(x); }), noise_.key_switch);
      case OpKind::kRescaleUnit:
        return Map(a, [&](Complex x) { return x * node.factor; });
      case OpKind::kChangeUnit:
        return Noisy(Map(a, [&](Complex x) { return x * node.factor; }), noise_.rescale);
      case OpKind::kChebyshev:
        return Polynomial(node, a);
      case OpKind::kBootstrap:
        return Bootstrap(node, a);
      case OpKind::kInput:
      case OpKind::kState:
      case OpKind::kMulSum:
        break;
    }
    PV_CHECK(false, "{}: operation {}", node.name, compile::OpKindName(node.kind));
  }

  // A product's key switch and rescale happen at about the square of the scale, so they count once;
  // the operands' adjustment to a common level rounds each of them.
  double Products(double magnitude) const {
    return Scaled(noise_.rescale, std::hypot(1.0, magnitude));
  }

  // Every term's first operand carries the key switches of the steps that brought it there.
  Value MulSum(const Node& node, std::span<const Value* const> inputs) {
    Value moved = *inputs[0], sum;
    double largest = 0;
    for (size_t k = 1; k < inputs.size(); ++k) {
      if (k > 1) moved = Rotated(moved, node.step);
      const Value product = Zip(moved, *inputs[k], Product);
      sum = sum.empty() ? product : Zip(sum, product, [](Complex x, Complex y) { return x + y; });
      largest = Worse(largest, Largest(*inputs[k]));
    }
    const auto terms = static_cast<double>(inputs.size() - 1);
    const double steps = noise_.key_switch * std::sqrt(terms * (terms - 1) / 2);
    return Noisy(std::move(sum),
                 std::hypot(Scaled(steps, largest),
                            Products(std::sqrt(terms) * (Largest(*inputs[0]) + largest))));
  }

  // Each key switch's error is summed by the rotations after it: 2^i terms of it, i = 0 .. n - 1.
  Value RotateSum(const Node& node, const Value& a) {
    Value sum = a;
    for (int rotation : node.rotations) AddRotated(sum, rotation);
    return Noisy(std::move(sum),
                 noise_.key_switch * std::sqrt(std::exp2(node.rotations.size()) - 1));
  }

  Value Linear(const Node& node, const Value& a) {
    Value sum;
    double weight = 0;  // sum over terms and slots of |diagonal|^2
    const compile::MapDiagonals diagonals = program_.Diagonals(*node.linear);
    const std::vector<int> rotations = node.linear->Rotations();
    for (int k = 0; k < node.linear->terms; ++k) {
      const Value diagonal = diagonals.Term(k);
      sum.resize(std::max(a.size(), diagonal.size()));
      const size_t mask = a.size() - 1, repeated = diagonal.size() - 1,
                   shift = static_cast<size_t>(rotations[static_cast<size_t>(k)]);
      for (size_t i = 0; i < sum.size(); ++i) {
        sum[i] += Product(a[(i + shift) & mask], diagonal[i & repeated]);
        weight += std::norm(diagonal[i & repeated]);
      }
    }
    // Every rotation's key switch is multiplied by its diagonal, every diagonal is rounded; one
    // rescale.
    const double rotated = noise_.key_switch * std::sqrt(weight / static_cast<double>(sum.size()));
    const double rounded = Scaled(noise_.encode, Largest(a)) * std::sqrt(node.linear->terms);
    return Noisy(std::move(sum), std::hypot(noise_.rescale, rotated, rounded));
  }

  // Every term's operands carry the key switches of the steps that brought them there.
  Value Band(const Node& node, const Value& a, const Value& b) {
    const compile::LinearMap& map = *node.linear;
    const compile::MapDiagonals diagonals = program_.Diagonals(map);
    Value sum(AllSlots());
    for (int k = 0; k < map.terms; ++k) {
      const Value diagonal = diagonals.Term(k);
      const auto left = static_cast<size_t>((map.first + k) * map.stride),
                 right = static_cast<size_t>((map.first + k) * map.other);
      for (size_t i = 0; i < sum.size(); ++i) {
        const Complex factor = diagonal[i & (diagonal.size() - 1)];
        if (factor == 0.0) continue;
        sum[i] += Product(Product(factor, a[(i + left) & (a.size() - 1)]),
                          b[(i + right) & (b.size() - 1)]);
      }
    }
    const double terms = std::sqrt(map.terms), moved = noise_.key_switch * terms / M_SQRT2;
    const double of_a =
        std::hypot(moved, map.by_term ? noise_.rescale : 0, Scaled(noise_.encode, Largest(a)));
    return Noisy(std::move(sum),
                 std::hypot(Scaled(terms * of_a, Largest(b)), Scaled(terms * moved, Largest(a)),
                            Products(Largest(a) + Largest(b))));
  }

  Value Polynomial(const Node& node, const Value& a) {
    CountEscapes(node, a);
    double weight = 0;  // each coefficient's product rounds once
    for (double c : node.coeffs) weight = std::hypot(weight, 2 * c);
    return Noisy(Map(a, [&](Complex x) { return Clenshaw(node.coeffs, x); }),
                 noise_.rescale * (2 + weight));
  }

  Value Bootstrap(const Node& node, const Value& a) {
    CountEscapes(node, a);
    Value result = node.real ? Map(a, [](Complex x) { return Complex(x.real()); }) : a;
    return Noisy(std::move(result), noise_.bootstrap);
  }

  void CountEscapes(const Node& node, const Value& a) {
    EscapeReport& report = sim_.escapes_[node.name];
    for (Complex x : a) {
      const double size = std::abs(x.real());
      const bool finite = std::isfinite(x.real()) && std::isfinite(x.imag());
      ++report.slots;
      report.escapes += !(size <= 1) || !finite;
      report.not_finite += !finite;
      report.worst = Worse(report.worst, finite ? size : INFINITY);
    }
  }

  void Disturb(Value& value, double sigma) {
    if (sigma == 0) return;
    for (Complex& x : value)
      x += Complex(Normal(sim_.random_) * sigma, Normal(sim_.random_) * sigma) * M_SQRT1_2;
  }

  Value Noisy(Value value, double sigma) {
    Disturb(value, sigma);
    return value;
  }

  Value Observed(const Node& node, Value value) {
    if (sim_.observer_) sim_.observer_(node, value);
    return value;
  }

  Simulator& sim_;
  const compile::CompiledProgram& program_;
  const NoiseModel& noise_;
};

void EscapeReport::Merge(const EscapeReport& other) {
  slots += other.slots;
  escapes += other.escapes;
  not_finite += other.not_finite;
  worst = Worse(worst, other.worst);
}

Simulator::Simulator(std::shared_ptr<const compile::CompiledProgram> model, NoiseModel noise,
                     std::uint64_t seed, SimulatedSlots slots)
    : model_(std::move(model)), noise_(noise), random_(seed), slots_(slots) {
  PV_CHECK(Reset().ok(), "a program's own prefix fits it");
}

Status Simulator::Reset(std::shared_ptr<const model::PublicContext> known) {
  position_ = 0;
  state_.clear();
  pages_.clear();
  chosen_position_ = -1;
  known_.reset();
  PV_ASSIGN_OR_RETURN(state_, model_->KnownStates(known.get()));
  for (Slots& slots : state_)
    if (slots.empty()) slots.resize(1);
  if (known) position_ = known->tokens;
  known_ = std::move(known);
  return {};
}

Status Simulator::Run(const compile::CompiledProgram& program, int position,
                      std::span<const Slots> inputs, std::span<const int> texts) {
  PV_ASSIGN_OR_RETURN(compile::Graph graph, program.Program(position, known_, texts));
  PV_ASSIGN_OR_RETURN(results_, RunGraph(program, graph, inputs, state_));
  position_ = program.keeps_caches() ? position + 1 : 0;
  return {};
}

Result<std::vector<Slots>> Simulator::RunGraph(const compile::CompiledProgram& program,
                                               const compile::Graph& graph,
                                               std::span<const Slots> inputs,
                                               std::vector<Slots>& states) {
  SimulatorMachine machine(*this, program);
  NoListener listener;
  Interpreter<SimulatorMachine, NoListener> interpreter(machine, listener);
  PV_ASSIGN_OR_RETURN(auto result, interpreter.Run(graph, inputs, states));
  states = std::move(result.state);
  return std::move(result.outputs);
}

Status Simulator::Choose(const compile::ChoiceProgram& choice, std::span<const double> noise) {
  const int position = position_ - 1;
  PV_ASSIGN_OR_RETURN(const compile::Graph graph, choice.Program(position));
  // Chosen again, it takes its place in the page again.
  if (position != chosen_position_) {
    const bool begins = pages_.empty() || choice.layout().place(position) == 0;
    pages_before_ = begins ? std::vector<Slots>(2, Slots(1)) : pages_;
    chosen_position_ = position;
  }
  std::vector<Slots> states = pages_before_;
  states.push_back(noise.empty()
                       ? Slots(1)
                       : compile::ChoiceNoiseSlots(choice.choice(), choice.layout(), noise));
  PV_ASSIGN_OR_RETURN(auto chosen, RunGraph(choice, graph, results_, states));
  chosen_ = std::move(chosen.front());
  pages_ = std::move(states);
  return {};
}

Status Simulator::Embed(const compile::ChoiceProgram& choice, std::int32_t token) {
  PV_ASSIGN_OR_RETURN(const auto bits,
                      compile::PackTokenBits(choice.layout(), position_, {&token, 1}));
  const compile::ChoiceProgram& prompt = *choice.prompt();
  PV_ASSIGN_OR_RETURN(const compile::Graph graph, prompt.Program(position_));
  std::vector<Slots> none;
  PV_ASSIGN_OR_RETURN(auto embedded, RunGraph(prompt, graph, {&bits, 1}, none));
  chosen_ = std::move(embedded.front());
  return {};
}

Result<std::vector<double>> Simulator::StepOnChosen() {
  PV_RETURN_IF_ERROR(Run(*model_, position_, {&chosen_, 1}));
  return compile::UnpackText(result_slots(), 1, model_->width(), 0, model_->units().result());
}

Result<std::vector<double>> Simulator::Step(std::span<const double> embedding) {
  const std::vector<double> text(embedding.begin(), embedding.end());
  PV_ASSIGN_OR_RETURN(auto residuals, StepTexts({&text, 1}));
  return std::move(residuals.front());
}

Result<std::vector<std::vector<double>>> Simulator::StepTexts(
    std::span<const std::vector<double>> embeddings) {
  const int width = model_->width(), texts = model_->texts();
  if (embeddings.empty() || embeddings.size() > static_cast<size_t>(texts))
    return MakeError(ErrorCode::kOutOfRange, "a step of {} texts, not in 1..{}", embeddings.size(),
                     texts);
  for (const std::vector<double>& embedding : embeddings)
    if (embedding.size() != static_cast<size_t>(width))
      return MakeError(ErrorCode::kMismatch, "embedding has {} values, the program's width is {}",
                       embedding.size(), width);
  const std::vector<double> packed = compile::PackTexts(embeddings, texts, model_->units().input);
  const Slots input(packed.begin(), packed.end());
  PV_RETURN_IF_ERROR(Run(*model_, position_, {&input, 1}));
  std::vector<std::vector<double>> residuals;
  for (int t = 0; t < static_cast<int>(embeddings.size()); ++t)
    residuals.push_back(
        compile::UnpackText(result_slots(), texts, width, t, model_->units().result()));
  return residuals;
}

Result<std::vector<std::vector<double>>> Simulator::Read(
    const std::shared_ptr<const compile::CompiledDecoder>& prompt,
    std::span<const std::vector<double>> embeddings, std::span<const int> texts) {
  if (position_ != 0)
    return MakeError(ErrorCode::kInvalidArgument, "a prompt at once at position {}, not 0",
                     position_);
  PV_RETURN_IF_ERROR(
      Run(*prompt, static_cast<int>(embeddings.size()) - 1,
          compile::PackTokens(embeddings, prompt->token_layout(), prompt->units().input), texts));
  std::vector<std::vector<double>> residuals;
  for (int t = 0; t < static_cast<int>(embeddings.size()); ++t)
    residuals.push_back(compile::UnpackToken(results_, prompt->token_layout(),
                                             prompt->result_width(), t, prompt->units().result()));
  return residuals;
}

}  // namespace polyveil::runtime
