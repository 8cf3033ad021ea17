#include "compile/level_stages.h"

#include <algorithm>

#include "compile/levels.h"

namespace polyveil::compile {
namespace {

LevelStage StageOf(const Graph& graph, const Node& node) {
  const bool raises = node.kind == OpKind::kBootstrap;
  const int from = raises ? graph[node.inputs[0]].level : node.level + Depth(node);
  return {node.component, node.layer, from, node.level};
}

}  // namespace

std::vector<LevelStage> LevelStages(const Graph& graph) {
  std::vector<LevelStage> stages;
  for (const Node& node : graph.nodes) {
    if (node.inputs.empty()) continue;
    const LevelStage next = StageOf(graph, node);
    const bool goes_on = !stages.empty() && stages.back().component == next.component &&
                         stages.back().layer == next.layer;
    if (!goes_on) {
      stages.push_back(next);
      continue;
    }
    LevelStage& last = stages.back();
    const bool raises = node.kind == OpKind::kBootstrap;
    last.from = raises ? std::min(last.from, next.from) : std::max(last.from, next.from);
    last.to = raises ? std::max(last.to, next.to) : std::min(last.to, next.to);
  }
  return stages;
}

}  // namespace polyveil::compile
