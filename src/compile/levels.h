// Level assignment and bootstrap placement.
//
// Levels are assigned backwards, each value at the lowest level that its users need (an operation
// is cheaper with fewer limbs). A placement is a set of values to bootstrap; the planner finds the
// cheapest by dynamic programming over layers, whose state is the level that the next layer needs
// of the one value between them: a shortest path over the level DAG.
#pragma once

#include <vector>

#include "base/result.h"
#include "compile/cost_model.h"
#include "compile/graph.h"

namespace polyveil::compile {

// Levels that a node consumes of an operand, which stands at node.level + Depth(node, operand).
int Depth(const Node& node, size_t operand = 0);

// On the longest path from a layer's input to a state that it leaves.
int DepthOfStates(const Graph& graph);

struct Placement {
  std::vector<bool> bootstrapped;  // by node of the graph given
  double seconds = 0;
};

// The cheapest placement among the graph's cut values. Errors: kOutOfRange when none fits; the
// message names the layer and the levels it needs at least.
Result<Placement> PlaceBootstraps(const Graph& graph, const ckks::Parameters& params,
                                  const CostModel& cost);

// The graph with a kBootstrap node after each chosen value; its users read the bootstrapped one.
Graph InsertBootstraps(Graph graph, const std::vector<bool>& bootstrapped);

// Sets every node's level. Errors: kOutOfRange, naming the value, when a level above the working
// levels is needed.
Status AssignLevels(Graph& graph, const ckks::Parameters& params);

}  // namespace polyveil::compile
