// Runs a graph on any machine: ciphertexts (engine_machine.h) or plain slot vectors with noise
// (simulator.h).
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/result.h"
#include "base/system.h"
#include "compile/graph.h"

namespace polyveil::runtime {

// What a machine provides:
//   using Value                                   movable
//   Result<Value> Execute(const compile::Node& node, std::span<const Value* const> inputs);
// and what the interpreter tells about each node: a Listener with
//   Status Before(const compile::Node& node);             an error stops the run (cancellation)
//   void After(const compile::Node& node, double seconds);
//
// inputs: the step's, as many as the graph has; state: values by state slot, empty at the first
// step. Values are released after their last use.
template <typename Machine, typename Listener>
class Interpreter {
 public:
  using Value = typename Machine::Value;

  struct StepResult {
    std::vector<Value> outputs;
    std::vector<Value> state;
  };

  Interpreter(Machine& machine, Listener& listener) : machine_(machine), listener_(listener) {}

  Result<StepResult> Run(const compile::Graph& graph, std::span<const Value> inputs,
                         const std::vector<Value>& state) {
    CountUses(graph);
    values_.clear();
    values_.resize(graph.nodes.size());
    for (size_t id = 0; id < graph.nodes.size(); ++id) {
      const compile::Node& node = graph.nodes[id];
      PV_RETURN_IF_ERROR(listener_.Before(node));
      Timer timer;
      PV_ASSIGN_OR_RETURN(Value value, Evaluate(node, inputs, state));
      values_[id] = std::make_unique<Value>(std::move(value));
      for (compile::NodeId used : node.inputs) Release(used);
      listener_.After(node, timer.Seconds());
    }
    std::vector<Value> next(graph.updates.size());
    for (const compile::StateUpdate& update : graph.updates) {
      // Whatever else wants it is counted: another state, the output. Caches are gigabytes.
      Value& value = *values_[update.node];
      next[update.state] = --uses_[update.node] == 0 ? std::move(value) : value;
    }
    std::vector<Value> outputs;
    for (const compile::NodeId id : graph.outputs) outputs.push_back(std::move(*values_[id]));
    return StepResult{std::move(outputs), std::move(next)};
  }

 private:
  Result<Value> Evaluate(const compile::Node& node, std::span<const Value> inputs,
                         const std::vector<Value>& state) {
    if (node.kind == compile::OpKind::kInput) {
      const auto at = static_cast<size_t>(node.state);
      PV_CHECK(at < inputs.size(), "input {} of {}", node.state, inputs.size());
      return machine_.Load(node, &inputs[at]);
    }
    if (node.kind == compile::OpKind::kState) {
      return machine_.Load(node, state.empty() ? nullptr : &state[node.state]);
    }
    std::vector<const Value*> operands;
    for (compile::NodeId id : node.inputs) operands.push_back(values_[id].get());
    Result<Value> result = machine_.Execute(node, operands);
    if (result.ok()) return result;
    return MakeError(result.error().code, "{}: {}", node.name, result.error().message);
  }

  void CountUses(const compile::Graph& graph) {
    uses_.assign(graph.nodes.size(), 0);
    for (const compile::Node& node : graph.nodes) {
      for (compile::NodeId id : node.inputs) ++uses_[id];
    }
    for (const compile::StateUpdate& update : graph.updates) ++uses_[update.node];
    for (const compile::NodeId id : graph.outputs) ++uses_[id];
  }

  void Release(compile::NodeId id) {
    if (--uses_[id] == 0) values_[id].reset();
  }

  Machine& machine_;
  Listener& listener_;
  std::vector<std::unique_ptr<Value>> values_;
  std::vector<int> uses_;
};

}  // namespace polyveil::runtime
