#include "compile/levels.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <utility>

#include "base/check.h"

namespace polyveil::compile {

namespace {

constexpr int kUnused = -1;

// The nodes of one layer stand together; `inputs` enter from before them, `outputs` are read behind
// them. Bootstraps serve all of either alike, so that one level stands for them.
struct Segment {
  NodeId begin = 0, end = 0;
  std::vector<NodeId> inputs, outputs;
  std::vector<NodeId> cuts;  // the first of those that are bootstrapped together
};

bool Contains(const std::vector<NodeId>& nodes, NodeId id) {
  return std::ranges::find(nodes, id) != nodes.end();
}

void FillOutputs(const Graph& graph, std::vector<Segment>& segments) {
  for (size_t i = 0; i < segments.size(); ++i) {
    Segment& segment = segments[i];
    const auto& read = i + 1 < segments.size() ? segments[i + 1].inputs : graph.outputs;
    for (const NodeId id : read)
      if (id >= segment.begin && id < segment.end) segment.outputs.push_back(id);
    if (!Contains(segment.outputs, segment.end - 1)) segment.outputs.push_back(segment.end - 1);
  }
}

std::vector<Segment> SplitLayers(const Graph& graph) {
  std::vector<Segment> segments;
  const NodeId count = static_cast<NodeId>(graph.nodes.size());
  for (NodeId id = 0; id < count; ++id) {
    const Node& node = graph[id];
    if (node.layer < 0) continue;
    if (segments.empty() || graph[segments.back().begin].layer != node.layer)
      segments.push_back({id, id, {}, {}, {}});
    Segment& segment = segments.back();
    segment.end = id + 1;
    if (node.cut && node.cut_with == id) segment.cuts.push_back(id);
    for (NodeId input : node.inputs) {
      if (input >= segment.begin || Contains(segment.inputs, input)) continue;
      segment.inputs.push_back(input);
      PV_CHECK(segment.inputs.size() <= graph.outputs.size(), "layer {} reads {} and {}",
               node.layer, graph[segment.inputs.front()].name, graph[input].name);
    }
  }
  FillOutputs(graph, segments);
  return segments;
}

struct SweepResult {
  bool feasible = false;
  int needed = 0;  // level needed of the segment's input, or the offending level when infeasible
  int most = 0;    // what it offends
  double seconds = 0;
};

// One backward pass over a segment, its last node needed at `output_level`.
class Sweep {
 public:
  Sweep(const Graph& graph, const Segment& segment, const ckks::Parameters& params,
        const CostModel& cost)
      : graph_(graph), segment_(segment), params_(params), cost_(cost) {}

  SweepResult Run(unsigned chosen, int output_level) {
    need_.assign(segment_.end - segment_.begin, kUnused);
    for (NodeId id = segment_.begin; id < segment_.end; ++id)
      if (graph_[id].least_level > 0) need_[id - segment_.begin] = graph_[id].least_level;
    for (const NodeId id : segment_.outputs) {
      int& need = need_[id - segment_.begin];
      need = std::max(need, output_level);
    }
    result_ = {true, 0, params_.working_level(), 0};
    for (NodeId id = segment_.end - 1; id >= segment_.begin && result_.feasible; --id)
      Visit(id, chosen);
    return result_;
  }

 private:
  bool Chosen(NodeId id, unsigned chosen) const {
    if (!graph_[id].cut) return false;
    auto it = std::find(segment_.cuts.begin(), segment_.cuts.end(), graph_[id].cut_with);
    return it != segment_.cuts.end() && (chosen >> (it - segment_.cuts.begin()) & 1);
  }

  void Visit(NodeId id, unsigned chosen) {
    const Node& node = graph_[id];
    int level = need_[id - segment_.begin];
    if (level == kUnused) return;
    if (Chosen(id, chosen)) {
      if (level > params_.working_level()) {
        result_ = {false, level, params_.working_level(), 0};
        return;
      }
      result_.seconds += cost_.BootstrapSeconds(node.log_period, node.real);
      level = params_.bootstrap_level();
    }
    if (const int most = std::min(params_.working_level(), node.most_level); level > most) {
      result_ = {false, level, most, 0};
      return;
    }
    result_.seconds += cost_.Seconds(node, level);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const NodeId input = node.inputs[i];
      int& need = input < segment_.begin ? result_.needed : need_[input - segment_.begin];
      need = std::max(need, level + Depth(node, i));
    }
  }

  const Graph& graph_;
  const Segment& segment_;
  const ckks::Parameters& params_;
  const CostModel& cost_;
  std::vector<int> need_;
  SweepResult result_;
};

// Best way from a layer's input, needed at some level, to the output.
struct Path {
  double seconds = 0;
  std::vector<unsigned> choices;  // last layer first
};

using Frontier = std::map<int, Path>;  // by level needed

Result<Frontier> ExtendFrontier(const Graph& graph, const Segment& segment,
                                const ckks::Parameters& params, const CostModel& cost,
                                const Frontier& after) {
  Frontier before;
  SweepResult least{false, std::numeric_limits<int>::max()};
  Sweep sweep(graph, segment, params, cost);
  constexpr size_t kMostCuts = 15;  // every subset is tried
  if (segment.cuts.size() > kMostCuts)
    return MakeError(ErrorCode::kOutOfRange, "layer {}: {} places for bootstraps > {}",
                     graph[segment.begin].layer, segment.cuts.size(), kMostCuts);
  for (const auto& [level, path] : after) {
    for (unsigned chosen = 0; chosen < (1u << segment.cuts.size()); ++chosen) {
      SweepResult result = sweep.Run(chosen, level);
      if (!result.feasible || result.needed > params.working_level()) {
        if (result.needed - result.most < least.needed - least.most) least = result;
        continue;
      }
      const double seconds = path.seconds + result.seconds;
      auto it = before.find(result.needed);
      if (it != before.end() && it->second.seconds <= seconds) continue;
      Path extended{seconds, path.choices};
      extended.choices.push_back(chosen);
      before[result.needed] = std::move(extended);
    }
  }
  if (before.empty()) {
    return MakeError(ErrorCode::kOutOfRange,
                     "layer {}: needs {} levels between bootstraps, {} has {}",
                     graph[segment.begin].layer, least.needed,
                     least.most < params.working_level()
                         ? "a cache that prompts at once fill"
                         : fmt::format("a ciphertext of parameters {}", params.spec().name),
                     least.most);
  }
  return before;
}

}  // namespace

int Depth(const Node& node, size_t operand) {
  switch (node.kind) {
    case OpKind::kBand:  // the diagonals' product and the operands'
      return operand == 1 && node.linear->by_term ? 1 : 2;
    case OpKind::kMul:
    case OpKind::kMulSum:
    case OpKind::kSquare:
    case OpKind::kMulPlain:
    case OpKind::kLinear:
    case OpKind::kChangeUnit:
      return 1;
    case OpKind::kChebyshev:
      return std::bit_width(node.coeffs.size() - 1);
    default:
      return 0;
  }
}

int DepthOfStates(const Graph& graph) {
  std::vector<int> depth(graph.nodes.size(), 0);
  for (size_t id = 0; id < graph.nodes.size(); ++id) {
    const Node& node = graph.nodes[id];
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const auto input = static_cast<size_t>(node.inputs[i]);
      const int before = graph.nodes[input].layer == node.layer ? depth[input] : 0;
      depth[id] = std::max(depth[id], before + Depth(node, i));
    }
  }
  int most = 0;
  for (const StateUpdate& update : graph.updates)
    most = std::max(most, depth[static_cast<size_t>(update.node)]);
  return most;
}

Result<Placement> PlaceBootstraps(const Graph& graph, const ckks::Parameters& params,
                                  const CostModel& cost) {
  const std::vector<Segment> segments = SplitLayers(graph);
  Frontier frontier{{0, Path{}}};
  for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
    PV_ASSIGN_OR_RETURN(frontier, ExtendFrontier(graph, *segment, params, cost, frontier));
  }
  const auto best = std::min_element(
      frontier.begin(), frontier.end(),
      [](const auto& a, const auto& b) { return a.second.seconds < b.second.seconds; });
  Placement placement{std::vector<bool>(graph.nodes.size(), false), best->second.seconds};
  const std::vector<unsigned>& choices = best->second.choices;
  for (size_t i = 0; i < choices.size(); ++i) {
    const Segment& segment = segments[segments.size() - 1 - i];
    for (size_t cut = 0; cut < segment.cuts.size(); ++cut) {
      placement.bootstrapped[segment.cuts[cut]] = choices[i] >> cut & 1;
    }
    for (NodeId id = segment.begin; id < segment.end; ++id) {
      if (graph[id].cut) placement.bootstrapped[id] = placement.bootstrapped[graph[id].cut_with];
    }
  }
  return placement;
}

Graph InsertBootstraps(Graph graph, const std::vector<bool>& bootstrapped) {
  PV_CHECK(bootstrapped.size() == graph.nodes.size(), "placement of {} nodes, graph of {}",
           bootstrapped.size(), graph.nodes.size());
  Graph result;
  std::vector<NodeId> renamed(graph.nodes.size());
  for (size_t id = 0; id < graph.nodes.size(); ++id) {
    Node& node = graph.nodes[id];
    for (NodeId& input : node.inputs) input = renamed[input];
    Node bootstrap{.kind = OpKind::kBootstrap, .component = Component::kBootstrap, .inputs = {}};
    bootstrap.name = node.name + " / bootstrap";
    bootstrap.layer = node.layer;
    bootstrap.log_period = node.log_period;
    bootstrap.real = node.real;
    bootstrap.magnitude = node.magnitude;
    result.nodes.push_back(std::move(node));
    renamed[id] = static_cast<NodeId>(result.nodes.size()) - 1;
    if (!bootstrapped[id]) continue;
    bootstrap.inputs = {renamed[id]};
    result.nodes.push_back(std::move(bootstrap));
    renamed[id] = static_cast<NodeId>(result.nodes.size()) - 1;
  }
  for (const StateUpdate& update : graph.updates)
    result.updates.push_back({update.state, renamed[update.node]});
  for (const NodeId output : graph.outputs) result.outputs.push_back(renamed[output]);
  return result;
}

Status AssignLevels(Graph& graph, const ckks::Parameters& params) {
  for (Node& node : graph.nodes) node.level = node.least_level;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    if (node.level > params.working_level()) {
      return MakeError(ErrorCode::kOutOfRange,
                       "{}: level {} needed > {} working levels of parameters {}", node.name,
                       node.level, params.working_level(), params.spec().name);
    }
    for (size_t operand = 0; operand < node.inputs.size(); ++operand) {
      const int needed = node.kind == OpKind::kBootstrap ? params.bootstrap_level()
                                                         : node.level + Depth(node, operand);
      int& level = graph.nodes[node.inputs[operand]].level;
      level = std::max(level, needed);
    }
  }
  return {};
}

}  // namespace polyveil::compile
