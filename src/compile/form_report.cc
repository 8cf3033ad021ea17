#include "compile/form_report.h"

#include <algorithm>
#include <string_view>

#include "approx/approximant.h"
#include "compile/levels.h"
#include "compile/lower.h"

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

NodeId Find(const Graph& graph, std::string_view name) {
  for (size_t id = 0; id < graph.nodes.size(); ++id)
    if (graph.nodes[id].name == name) return static_cast<NodeId>(id);
  PV_CHECK(false, "no value {}", name);
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
  const NodeId heads = graph[Find(graph, "layer 0 / attention / projection products")].inputs[0];
  report.nonlinearity_depth = depths[heads] - depths[Find(graph, "layer 0 / attention / scores")];
  report.attention_depth = depths[Find(graph, "layer 0 / attention / residual")];
  report.block_depth = depths[Find(graph, "layer 0 / feed-forward / residual")];
}

FormLatency Latency(const Graph& plan, const CostModel& cost, int keys, int keys_in_one) {
  FormLatency out;
  out.keys = keys;
  const int parts = (keys + keys_in_one - 1) / keys_in_one;
  const std::vector<bool> indexed = IndexedByKeys(plan);
  for (size_t id = 0; id < plan.nodes.size(); ++id) {
    const Node& node = plan.nodes[id];
    const int count = indexed[id] ? parts : 1;
    const double seconds = count * cost.Seconds(node, node.level);
    out.token_seconds += seconds;
    if (node.kind == OpKind::kBootstrap) out.bootstraps += count;
    if (BelongsToAttention(plan, node)) out.attention_seconds += seconds;
  }
  return out;
}

}  // namespace

std::vector<bool> IndexedByKeys(const Graph& graph) {
  std::vector<bool> indexed(graph.nodes.size(), false);
  for (size_t id = 0; id < graph.nodes.size(); ++id) {
    const Node& node = graph.nodes[id];
    indexed[id] = node.kind == OpKind::kState;
    for (const NodeId input : node.inputs) indexed[id] = indexed[id] || indexed[input];
    // Sums over neighbouring slots are sums over keys; those over elements of a head take larger
    // steps.
    if (node.kind == OpKind::kRotateSum && node.rotations.front() == 1) indexed[id] = false;
  }
  return indexed;
}

Result<FormReport> ReportForm(const model::BodyBundle& bundle, const ckks::ParametersPtr& params,
                              const MachineSpeed& speed, const std::vector<int>& lengths) {
  PV_ASSIGN_OR_RETURN(const Layout layout, Layout::Create(bundle.config, params->log_slots()));
  PV_ASSIGN_OR_RETURN(Graph graph, LowerStep(bundle, layout, bundle.config.context - 1));
  const CostModel cost(params, speed);
  FormReport report;
  MeasureDepths(graph, report);
  CountLayer(graph, report);
  PV_ASSIGN_OR_RETURN(const Placement placement, PlaceBootstraps(graph, *params, cost));
  report.bootstraps = static_cast<int>(
      std::count(placement.bootstrapped.begin(), placement.bootstrapped.end(), true));
  Graph plan = InsertBootstraps(std::move(graph), placement.bootstrapped);
  PV_RETURN_IF_ERROR(AssignLevels(plan, *params));
  for (const int keys : lengths) report.latency.push_back(Latency(plan, cost, keys, layout.half()));
  return report;
}

}  // namespace polyveil::compile
