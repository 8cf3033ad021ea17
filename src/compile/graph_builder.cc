#include "compile/graph_builder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace polyveil::compile {

namespace {

int LogSize(const std::vector<Complex>& values) {
  PV_CHECK(std::has_single_bit(values.size()), "constant of {} values", values.size());
  return std::countr_zero(values.size());
}

bool IsReal(const std::vector<Complex>& values) {
  return std::all_of(values.begin(), values.end(), [](Complex v) { return v.imag() == 0; });
}

}  // namespace

double FreeFactor(double factor, int degree) {
  // What is declared returns as its k-th power in the scale of T_k, and inversely in the scale of
  // T_k's quotient: above 1 it makes constants large, which a word must hold; below 1 it takes the
  // quotient's precision, and a series of low degree has more of that to lose before its error is
  // that of a bootstrap (circuits' CircuitNoise.DeclaredScaleOfAnArgument).
  constexpr double kConstantBits = 20, kRounding = 1 - 1e-9;
  const double precision_bits = 13 - 1.5 * std::bit_width(static_cast<unsigned>(degree));
  const double least = std::exp2(-precision_bits / degree);
  if (factor < kRounding * least) return least;
  const double declared = factor / static_cast<double>(IntegerPart(factor));
  return degree * std::log2(declared) <= kConstantBits ? factor : std::ceil(factor);
}

void GraphBuilder::Enter(int layer, Component component, std::string prefix) {
  layer_ = layer;
  component_ = component;
  prefix_ = std::move(prefix);
}

NodeId GraphBuilder::Append(OpKind kind, std::string name, std::vector<NodeId> inputs) {
  Node node{.kind = kind, .component = component_, .inputs = std::move(inputs)};
  node.name = prefix_ + name;
  node.layer = layer_;
  for (NodeId input : node.inputs) {
    node.log_period = std::max(node.log_period, graph_[input].log_period);
    node.real = node.real && graph_[input].real;
  }
  graph_.nodes.push_back(std::move(node));
  return static_cast<NodeId>(graph_.nodes.size()) - 1;
}

NodeId GraphBuilder::Input(std::string name, int log_period, int index) {
  NodeId id = Append(OpKind::kInput, std::move(name), {});
  graph_.nodes[id].state = index;
  SetPeriod(id, log_period);
  return id;
}

NodeId GraphBuilder::State(std::string name, int state, int log_period) {
  NodeId id = Input(std::move(name), log_period);
  graph_.nodes[id].kind = OpKind::kState;
  graph_.nodes[id].state = state;
  return id;
}

NodeId GraphBuilder::Add(std::string name, NodeId a, NodeId b) {
  return Append(OpKind::kAdd, std::move(name), {a, b});
}

NodeId GraphBuilder::Sub(std::string name, NodeId a, NodeId b) {
  return Append(OpKind::kSub, std::move(name), {a, b});
}

NodeId GraphBuilder::Mul(std::string name, NodeId a, NodeId b) {
  return Append(OpKind::kMul, std::move(name), {a, b});
}

NodeId GraphBuilder::MulSum(std::string name, NodeId a, int step, std::span<const NodeId> b) {
  std::vector<NodeId> inputs = {a};
  inputs.insert(inputs.end(), b.begin(), b.end());
  NodeId id = Append(OpKind::kMulSum, std::move(name), std::move(inputs));
  graph_.nodes[id].step = step & ((1 << log_slots_) - 1);
  return id;
}

NodeId GraphBuilder::Square(std::string name, NodeId a) {
  return Append(OpKind::kSquare, std::move(name), {a});
}

NodeId GraphBuilder::MulPlain(std::string name, NodeId a, std::vector<Complex> constant) {
  constexpr double kLargestFactor = 1 << 16;  // times a scale it is no 64-bit integer much above
  const double whole = constant.size() == 1 ? std::ceil(std::abs(constant[0])) : 0;
  if (whole > kLargestFactor && whole < kLargestTimes) {  // above: refused where it is encoded
    a = Times(name + " times a whole number", a, static_cast<std::int64_t>(whole));
    constant[0] /= whole;
  }
  return Plain(OpKind::kMulPlain, std::move(name), a, std::move(constant));
}

NodeId GraphBuilder::Plain(OpKind kind, std::string name, NodeId a, std::vector<Complex> constant) {
  NodeId id = Append(kind, std::move(name), {a});
  Node& node = graph_.nodes[id];
  node.log_period = std::max(node.log_period, LogSize(constant));
  node.real = node.real && IsReal(constant);
  node.constant = std::move(constant);
  return id;
}

NodeId GraphBuilder::AddPlain(std::string name, NodeId a, std::vector<Complex> constant) {
  return Plain(OpKind::kAddPlain, std::move(name), a, std::move(constant));
}

NodeId GraphBuilder::Linear(std::string name, NodeId a, LinearMap map, bool real) {
  const bool unmoved = map.terms == 1 && map.first == 0;
  const OpKind kind = unmoved ? OpKind::kMulPlain : OpKind::kLinear;
  NodeId id = Append(kind, std::move(name), {a});
  Node& node = graph_.nodes[id];
  node.log_period = log_slots_;
  node.real = node.real && real;
  node.linear = std::make_shared<const LinearMap>(std::move(map));
  return id;
}

NodeId GraphBuilder::Band(std::string name, NodeId a, NodeId b, LinearMap map, NodeId after,
                          int shared) {
  NodeId id = Append(OpKind::kBand, std::move(name), {a, b});
  if (after >= 0) {
    const auto at = static_cast<size_t>(shared);
    PV_CHECK(graph_.nodes[after].inputs[at] == graph_.nodes[id].inputs[at], "operand {} of {}",
             shared, graph_.nodes[id].name);
    graph_.nodes[after].kept = graph_.nodes[id].reused = shared;
  }
  Node& node = graph_.nodes[id];
  node.log_period = log_slots_;
  node.linear = std::make_shared<const LinearMap>(std::move(map));
  return id;
}

void GraphBuilder::ShareMap(NodeId before, NodeId id) {
  Node &first = graph_.nodes[before], &second = graph_.nodes[id];
  if (first.kind != OpKind::kLinear) return;
  second.linear = first.linear;
  first.kept = second.reused = 0;
}

NodeId GraphBuilder::MulByI(std::string name, NodeId a) {
  return Append(OpKind::kMulByI, std::move(name), {a});
}

NodeId GraphBuilder::Rotate(std::string name, NodeId a, int rotation) {
  NodeId id = RotateSum(std::move(name), a, {rotation});
  graph_.nodes[id].kind = OpKind::kRotate;
  return id;
}

NodeId GraphBuilder::RotateSum(std::string name, NodeId a, std::vector<int> rotations) {
  NodeId id = Append(OpKind::kRotateSum, std::move(name), {a});
  for (int& r : rotations) r = ((r % (1 << log_slots_)) + (1 << log_slots_)) % (1 << log_slots_);
  graph_.nodes[id].rotations = std::move(rotations);
  return id;
}

NodeId GraphBuilder::Conjugate(std::string name, NodeId a) {
  return Append(OpKind::kConjugate, std::move(name), {a});
}

NodeId GraphBuilder::ChangeUnit(std::string name, NodeId a, double factor) {
  NodeId id = Append(OpKind::kChangeUnit, std::move(name), {a});
  graph_.nodes[id].factor = factor;
  return id;
}

NodeId GraphBuilder::Times(std::string name, NodeId a, std::int64_t factor) {
  PV_CHECK(factor > 0 && factor < kLargestTimes, "{}: times {}", name, factor);
  const NodeId id = Append(OpKind::kRescaleUnit, std::move(name), {a});
  graph_.nodes[id].factor = static_cast<double>(factor);
  return id;
}

NodeId GraphBuilder::ArgumentUnit(std::string name, NodeId a, double factor, int degree) {
  if (FreeFactor(factor, degree) != factor) return MulPlain(std::move(name), a, {Complex(factor)});
  const NodeId id = Append(OpKind::kRescaleUnit, std::move(name), {a});
  graph_.nodes[id].factor = factor;
  return id;
}

NodeId GraphBuilder::Polynomial(std::string name, NodeId a, double factor, double offset,
                                const std::vector<double>& coeffs) {
  const NodeId unit =
      ArgumentUnit(name + " / unit", a, factor, static_cast<int>(coeffs.size()) - 1);
  NodeId argument = AddPlain(name + " / argument", unit, {Complex(offset)});
  NodeId id = Append(OpKind::kChebyshev, std::move(name), {argument});
  graph_.nodes[id].coeffs = coeffs;
  return id;
}

}  // namespace polyveil::compile
