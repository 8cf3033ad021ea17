#include "compile/form_report.h"

#include <algorithm>
#include <utility>

#include "approx/approximant.h"
#include "compile/levels.h"
#include "compile/lower_block.h"

namespace polyveil::compile {

namespace {

std::vector<int> Depths(const Graph& graph) {
  std::vector<int> depth(graph.nodes.size(), 0);
  for (size_t id = 0; id < graph.nodes.size(); ++id) {
    for (const NodeId input : graph.nodes[id].inputs) depth[id] = std::max(depth[id], depth[input]);
    depth[id] += Depth(graph.nodes[id]);
  }
  return depth;
}

NodeId FindInFirstLayer(const Graph& graph, Mark mark) {
  for (size_t id = 0; id < graph.nodes.size(); ++id)
    if (graph.nodes[id].mark == mark && graph.nodes[id].layer == 0) return static_cast<NodeId>(id);
  PV_CHECK(false, "no value with mark {} in layer 0", static_cast<int>(mark));
}

bool IsAttentionOperator(const Node& node) {
  switch (node.component) {
    case Component::kScores:
    case Component::kPower:
    case Component::kDivision:
    case Component::kValues:
      return true;
    default:
      return false;
  }
}

// Bootstraps stand in a component of their own: what they refresh tells where they belong.
bool BelongsToAttention(const Graph& graph, const Node& node) {
  return IsAttentionOperator(node.kind == OpKind::kBootstrap ? graph[node.inputs[0]] : node);
}

void CountLayer(const Graph& graph, FormReport& report) {
  for (const Node& node : graph.nodes) {
    if (node.layer != 0) continue;
    report.rotations += static_cast<int>(node.rotations.size());
    if (node.kind == OpKind::kMul || node.kind == OpKind::kSquare) ++report.products;
    if (node.kind == OpKind::kMulPlain) ++report.plain_products;
    if (node.kind == OpKind::kChebyshev)
      report.products += approx::Approximant(-1, 1, node.coeffs).Products();
  }
}

void MeasureDepths(const Graph& graph, FormReport& report) {
  const std::vector<int> depths = Depths(graph);
  const auto depth = [&](Mark mark) {
    return depths[static_cast<size_t>(FindInFirstLayer(graph, mark))];
  };
  report.nonlinearity_depth = depth(Mark::kHeadOutputs) - depth(Mark::kScores);
  report.attention_depth = depth(Mark::kAttended);
  report.block_depth = depth(Mark::kResult);
}

// A step of a text of decoder.context tokens, without levels.
Result<Graph> LowerLastStep(const model::Decoder& decoder, const ckks::Parameters& params) {
  const model::BlockShape& shape = decoder.blocks.front().shape;
  PV_ASSIGN_OR_RETURN(
      const BlockLayout layout,
      BlockLayout::Create(shape, decoder.context + decoder.prefix(), params.log_slots()));
  return LowerStep(decoder, layout, decoder.context - 1);
}

Result<Graph> PlanLastStep(const model::Decoder& decoder, const ckks::Parameters& params,
                           const CostModel& cost) {
  PV_ASSIGN_OR_RETURN(Graph graph, LowerLastStep(decoder, params));
  PV_ASSIGN_OR_RETURN(const Placement placement, PlaceBootstraps(graph, params, cost));
  Graph plan = InsertBootstraps(std::move(graph), placement.bootstrapped);
  PV_RETURN_IF_ERROR(AssignLevels(plan, params));
  return plan;
}

FormLatency Latency(const Graph& plan, const CostModel& cost, int keys) {
  FormLatency out;
  out.keys = keys;
  for (const Node& node : plan.nodes) {
    const double seconds = cost.Seconds(node, node.level);
    out.token_seconds += seconds;
    out.bootstraps += node.kind == OpKind::kBootstrap;
    if (BelongsToAttention(plan, node)) out.attention_seconds += seconds;
  }
  return out;
}

}  // namespace

std::set<std::string> AttentionOperations(const Graph& plan) {
  std::set<std::string> names;
  for (const Node& node : plan.nodes)
    if (BelongsToAttention(plan, node)) names.insert(node.name);
  return names;
}

Result<FormReport> ReportForm(const model::Decoder& decoder, const ckks::ParametersPtr& params,
                              const MachineSpeed& speed, const std::vector<int>& lengths) {
  const CostModel cost(params, speed);
  FormReport report;
  PV_ASSIGN_OR_RETURN(const Graph graph, LowerLastStep(decoder, *params));
  MeasureDepths(graph, report);
  CountLayer(graph, report);
  PV_ASSIGN_OR_RETURN(const Graph own, PlanLastStep(decoder, *params, cost));
  report.bootstraps = Latency(own, cost, decoder.context).bootstraps;
  for (const int keys : lengths) {
    model::Decoder longer = decoder;
    longer.context = keys;
    PV_ASSIGN_OR_RETURN(const Graph plan, PlanLastStep(longer, *params, cost));
    report.latency.push_back(Latency(plan, cost, keys));
  }
  return report;
}

}  // namespace polyveil::compile
