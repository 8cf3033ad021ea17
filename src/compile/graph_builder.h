// Appends nodes to a graph: fills in periods and realness, which follow from the operands.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "compile/graph.h"

namespace polyveil::compile {

// The least factor >= `factor` that Polynomial's argument takes without a level: itself, one below
// 1 that still leaves the series its precision, or the next integer.
double FreeFactor(double factor, int degree);

class GraphBuilder {
 public:
  static constexpr std::int64_t kLargestTimes = std::int64_t{1} << 40;

  explicit GraphBuilder(int log_slots) : log_slots_(log_slots) {}

  // Every later node belongs to this layer and component; its name is prefix + its own.
  void Enter(int layer, Component component, std::string prefix);

  // index: among the program's inputs.
  NodeId Input(std::string name, int log_period, int index = 0);
  NodeId State(std::string name, int state, int log_period);
  NodeId Add(std::string name, NodeId a, NodeId b);
  NodeId Sub(std::string name, NodeId a, NodeId b);
  NodeId Mul(std::string name, NodeId a, NodeId b);
  // sum_k rotate(a, k step) * b[k].
  NodeId MulSum(std::string name, NodeId a, int step, std::span<const NodeId> b);
  NodeId Square(std::string name, NodeId a);
  // One constant below kLargestTimes by a whole number and the rest where it is large.
  NodeId MulPlain(std::string name, NodeId a, std::vector<Complex> constant);
  NodeId AddPlain(std::string name, NodeId a, std::vector<Complex> constant);
  // The result fills every slot; real: whether it is for a real operand. A map of one term that
  // moves nothing is a product with a constant.
  NodeId Linear(std::string name, NodeId a, LinearMap map, bool real);
  // Fills every slot. after: a band that reads the operand `shared` as this one does, and rotates
  // it for both.
  NodeId Band(std::string name, NodeId a, NodeId b, LinearMap map, NodeId after = -1,
              int shared = -1);
  // Two maps that are the same, `id` the first behind `before`: plaintexts are made once.
  void ShareMap(NodeId before, NodeId id);
  NodeId MulByI(std::string name, NodeId a);
  NodeId Rotate(std::string name, NodeId a, int rotation);
  NodeId RotateSum(std::string name, NodeId a, std::vector<int> rotations);
  NodeId Conjugate(std::string name, NodeId a);
  NodeId ChangeUnit(std::string name, NodeId a, double factor);
  // By an integer below kLargestTimes, exactly and without a level; what noise a has grows with it.
  NodeId Times(std::string name, NodeId a, std::int64_t factor);
  // sum_k coeffs[k] T_k(factor * a + offset). The affine map costs a level where FreeFactor(factor,
  // degree) is another.
  NodeId Polynomial(std::string name, NodeId a, double factor, double offset,
                    const std::vector<double>& coeffs);

  // What the operands do not tell.
  void SetPeriod(NodeId id, int log_period) { graph_.nodes[id].log_period = log_period; }
  void SetReal(NodeId id, bool real) { graph_.nodes[id].real = real; }
  void SetMagnitude(NodeId id, double magnitude) { graph_.nodes[id].magnitude = magnitude; }
  void MarkCut(NodeId id) { MarkCut(id, id); }
  // Bootstrapped exactly where the earlier cut value `with` is.
  void MarkCut(NodeId id, NodeId with) {
    graph_.nodes[id].cut = true;
    graph_.nodes[id].cut_with = with;
  }
  void SetLeastLevel(NodeId id, int level) { graph_.nodes[id].least_level = level; }
  void SetMostLevel(NodeId id, int level) { graph_.nodes[id].most_level = level; }
  void SetMark(NodeId id, Mark mark) { graph_.nodes[id].mark = mark; }

  Graph& graph() { return graph_; }

 private:
  NodeId Plain(OpKind kind, std::string name, NodeId a, std::vector<Complex> constant);
  NodeId ArgumentUnit(std::string name, NodeId a, double factor, int degree);
  NodeId Append(OpKind kind, std::string name, std::vector<NodeId> inputs);

  int log_slots_;
  Graph graph_;
  int layer_ = -1;
  Component component_ = Component::kInput;
  std::string prefix_;
};

}  // namespace polyveil::compile
