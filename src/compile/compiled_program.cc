#include "compile/compiled_program.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "base/digest.h"
#include "ckks/key_storage.h"
#include "compile/levels.h"
#include "compile/packed_bytes.h"

namespace polyveil::compile {

namespace {

// Aim for the expanded evaluation keys; keys that a program cannot do without may exceed it.
constexpr size_t kKeyBytes = 3'000'000'000;

int LongestPath(const Graph& graph) {
  std::vector<int> depth(graph.nodes.size(), 0);
  int longest = 0;
  for (size_t id = 0; id < graph.nodes.size(); ++id) {
    for (NodeId input : graph.nodes[id].inputs) depth[id] = std::max(depth[id], depth[input]);
    depth[id] += Depth(graph.nodes[id]);
    longest = std::max(longest, depth[id]);
  }
  return longest;
}

// hoisted: uses of keys that have to be of their level.
void CollectBand(const Node& node, const ckks::Parameters& params, ckks::KeyUses& uses,
                 ckks::KeyUses& hoisted) {
  const BandSteps steps(node);
  const auto add = [&](ckks::KeyUses& to, int step, int level, int count) {
    if (step % params.slots() != 0 && count > 0) to.AddRotation(step, params.slots(), level, count);
  };
  const int sums = node.level + Depth(node, 1), whole = node.level + Depth(node, steps.whole);
  for (int k = 1; k <= steps.ahead; ++k) {
    add(hoisted, k * steps.baby, node.level + Depth(node, 1 - steps.whole), steps.HoistedBabies(k));
    if (node.reused < 0) add(hoisted, k * steps.each, whole, steps.Hoisted(k));
  }
  if (node.reused < 0) {
    add(uses, steps.between, whole, steps.groups - 1);
    add(uses, steps.last, whole, 1);
  }
  add(uses, steps.group, sums, steps.groups - 1);
  add(uses, steps.all, sums, 1);
  uses.AddRelinearization(sums, steps.groups);
}

bool Multiplies(const Node& node) {
  return node.kind == OpKind::kMul || node.kind == OpKind::kMulSum || node.kind == OpKind::kSquare;
}

// What a server holds beside keys and the rotations of its largest matrix. The constants are
// measured on decode16 with models/tiny, whose matrices have one term: the whole is 4.85 GB for a
// process with a peak of 4.84 GB.
size_t WorkingBytes(const ckks::Parameters& params, int states) {
  constexpr size_t kCiphertexts = 56;  // at the top: powers of EvalMod, digits of key switches
  constexpr size_t kProcessBytes = size_t{128} << 20;  // weights, graphs, code
  const size_t limb = size_t{8} * params.n();
  const size_t top = 2 * limb * params.limbs(params.max_level());
  const size_t cache = 2 * limb * params.limbs(params.working_level());
  // Of the NTT; permutations and the plaintexts of bootstraps are half as much.
  const size_t tables = params.table_bytes() * 3 / 2;
  return kCiphertexts * top + static_cast<size_t>(states) * cache + tables + kProcessBytes;
}

}  // namespace

CompiledProgram::CompiledProgram(ckks::ParametersPtr params, const MachineSpeed& speed,
                                 ResidualUnits units)
    : params_(std::move(params)), speed_(speed), cost_(params_, speed), units_(std::move(units)) {}

Status CompiledProgram::Plan(const CircuitKeys& circuits) {
  PV_ASSIGN_OR_RETURN(Graph graph, Lower(0, nullptr, {}));
  // The same on every machine: keys made for one serve on another.
  const CostModel usual(params_, MachineSpeed{});
  PV_ASSIGN_OR_RETURN(Placement placement, PlaceBootstraps(graph, *params_, usual));
  usual_seconds_ = placement.seconds;
  bootstrapped_ = std::move(placement.bootstrapped);
  PV_ASSIGN_OR_RETURN(Graph plan, Program(0));
  PV_RETURN_IF_ERROR(CollectKeys(plan, circuits));
  MakeEstimate(plan);
  MakeDigest(plan);
  return {};
}

Result<Graph> CompiledProgram::Program(int position,
                                       const std::shared_ptr<const model::PublicContext>& known,
                                       std::span<const int> texts) const {
  PV_ASSIGN_OR_RETURN(Graph graph, Lower(position, known, texts));
  graph = InsertBootstraps(std::move(graph), bootstrapped_);
  PV_RETURN_IF_ERROR(AssignLevels(graph, *params_));
  return graph;
}

double CompiledProgram::EstimateSeconds(const Node& node) const {
  return cost_.Seconds(node, node.level);
}

Status CompiledProgram::CollectKeys(const Graph& plan, const CircuitKeys& circuits) {
  std::map<std::pair<int, bool>, int> bootstraps;   // their number
  std::set<std::pair<std::vector<int>, int>> maps;  // linear maps of the same keys
  ckks::KeyUses uses, hoisted;
  for (const Node& node : plan.nodes) {
    for (int rotation : node.rotations) uses.AddRotation(rotation, params_->slots(), node.level);
    // A polynomial's products lie on the levels between its operand and its result.
    if (Multiplies(node) || node.kind == OpKind::kChebyshev) {
      for (int level = node.level + 1; level <= node.level + Depth(node); ++level)
        uses.AddRelinearization(level);
    }
    if (node.kind == OpKind::kMulSum)
      uses.AddRotation(node.step, params_->slots(), node.level + 1,
                       static_cast<int>(node.inputs.size()) - 2);
    if (node.kind == OpKind::kBand) CollectBand(node, *params_, uses, hoisted);
    if (node.kind == OpKind::kConjugate) uses.AddConjugation(node.level);
    if (node.kind == OpKind::kBootstrap) ++bootstraps[{node.log_period, node.real}];
    if (node.kind == OpKind::kLinear && maps.emplace(node.linear->Rotations(), node.level).second)
      uses.required.Merge(circuits.linear(*node.linear, node.level + 1));
    if (node.kind == OpKind::kInput) input_level_ = node.level;
  }
  output_level_ = plan[plan.outputs.front()].level;
  for (const auto& [use, count] : hoisted.rotations)
    uses.required.AddRotation(use.first, params_->slots(), use.second);
  key_uses_ = uses;
  for (const auto& [use, count] : hoisted.rotations)
    key_uses_.AddRotation(use.first, params_->slots(), use.second, count);
  for (const auto& [spec, count] : bootstraps) {
    PV_ASSIGN_OR_RETURN(ckks::KeyRequest request, circuits.bootstrap(spec.first, spec.second));
    uses.required.Merge(request);
    for (const auto& [rotation, level] : request.rotations)
      key_uses_.AddRotation(rotation, params_->slots(), level, count);
    for (const int level : request.relinearization_levels)
      key_uses_.AddRelinearization(level, count);
    for (const int level : request.conjugation_levels) key_uses_.AddConjugation(level, count);
    key_uses_.mod_raises += count;
  }
  keys_ = ckks::PlanKeys(*params_, uses, kKeyBytes);
  cost_.UseKeys(keys_);
  return {};
}

void CompiledProgram::MakeEstimate(const Graph& plan) {
  Estimate& e = estimate_;
  e.component_seconds.assign(kComponentCount, 0);
  size_t rotations = 0, constants = 0;
  for (const Node& node : plan.nodes) {
    if (node.kind == OpKind::kLinear)
      rotations = std::max(rotations, cost_.RotationBytes(*node.linear, node.level + 1));
    constants += node.constant.size() * sizeof(Complex);
    const double seconds = EstimateSeconds(node);
    e.seconds_per_token += seconds;
    e.component_seconds[static_cast<int>(node.component)] += seconds;
    e.rotations_per_token += static_cast<int>(node.rotations.size());
    e.products_per_token += Multiplies(node);
    e.bootstraps_per_token += node.kind == OpKind::kBootstrap;
  }
  e.depth_per_token = LongestPath(plan);
  e.levels = LevelStages(plan);
  EstimateKeys();
  const size_t ciphertexts = plan.outputs.size();
  e.token_bytes_up = ciphertexts * PackedBytes(*params_, input_level_);
  e.token_bytes_down = ciphertexts * 2 * PackedBytes(*params_, output_level_);
  running_bytes_ = rotations + constants;
  e.server_bytes = e.key_bytes_memory + WorkingBytes(*params_, state_count()) + running_bytes_;
}

void CompiledProgram::EstimateKeys() {
  Estimate& e = estimate_;
  const KeyBytes keys = MeasureKeys(*params_, keys_);
  e.key_bytes_wire = keys.wire;
  e.key_bytes_memory = keys.memory;
  e.key_bytes_compact = ckks::KeyMemoryBytes(*params_, keys_, {});
  e.compact_seconds = cost_.ExpansionSeconds(ckks::LimbsToExpand(*params_, keys_, {}, key_uses_));
  e.key_generation_seconds = cost_.KeyGenerationSeconds(keys_);
}

void CompiledProgram::ServeBeside(const CompiledProgram& other) {
  const size_t before = estimate_.key_bytes_memory + running_bytes_;
  keys_.Merge(other.keys_);
  keys_ = ckks::PlanKeys(*params_, keys_);
  cost_.UseKeys(keys_);
  EstimateKeys();
  running_bytes_ = std::max(running_bytes_, other.running_bytes_);
  estimate_.server_bytes += estimate_.key_bytes_memory + running_bytes_ - before;
  digest_ =
      ToHex(Hasher("polyveil programs").UpdateField(digest_).UpdateField(other.digest_).Final());
}

size_t CompiledProgram::WeightRoom() const {
  if (speed_.weight_bytes) return *speed_.weight_bytes;
  if (speed_.memory_bytes == 0) return std::numeric_limits<size_t>::max();
  // A byte of weights spares a token more than one of expanded keys.
  const Estimate& e = estimate_;
  const size_t least = e.server_bytes - e.key_bytes_memory + e.key_bytes_compact;
  return (speed_.memory_bytes - std::min<size_t>(least, speed_.memory_bytes)) / 2;
}

void CompiledProgram::KeepBeside(const CompiledProgram& other) {
  estimate_.weight_bytes += other.estimate_.weight_bytes;
  estimate_.server_bytes += other.estimate_.weight_bytes;
}

Status CompiledProgram::PlanWeights(size_t room, std::span<CompiledProgram* const> beside) {
  Shelf shelf{room};
  PV_RETURN_IF_ERROR(KeepOn(shelf));
  for (CompiledProgram* const other : beside) {
    PV_RETURN_IF_ERROR(other->KeepOn(shelf));
    KeepBeside(*other);
  }
  return {};
}

Status CompiledProgram::KeepOn(Shelf& shelf) {
  PV_ASSIGN_OR_RETURN(const Graph plan, Program(0));
  Estimate& e = estimate_;
  e.weight_budget = shelf.room;
  const size_t before = shelf.bytes;
  for (const Node& node : plan.nodes) {
    if (!node.linear || node.kind == OpKind::kBand) continue;
    if (node.kind == OpKind::kLinear && node.reused >= 0) continue;
    const PlaintextKey key = KeyOf(*node.linear, node.level + 1);
    if (shelf.kept.contains(key)) continue;
    const double seconds = cost_.MakeSeconds(*node.linear, node.level + 1);
    const size_t bytes = cost_.PlaintextBytes(*node.linear, node.level + 1);
    if (node.linear->position < 0 && shelf.bytes + bytes <= shelf.room) {
      shelf.bytes += bytes;
      shelf.kept.insert(key);
      e.first_seconds += seconds;
      continue;
    }
    e.make_seconds += seconds;
    e.component_seconds[static_cast<int>(node.component)] += seconds;
  }
  e.seconds_per_token += e.make_seconds;
  e.weight_bytes += shelf.bytes - before;
  e.server_bytes += shelf.bytes - before;
  return {};
}

void CompiledProgram::MakeDigest(const Graph& plan) {
  Hasher hasher("polyveil program");
  hasher.UpdateField(Description());
  hasher.Update(params_->digest().data(), params_->digest().size());
  for (const Node& node : plan.nodes) {
    hasher.UpdateU64(static_cast<u64>(node.kind));
    hasher.UpdateU64(static_cast<u64>(node.level));
  }
  const Digest digest = hasher.Final();
  digest_ = ToHex(digest);
}

Result<std::string> CompiledProgram::Dump(int position) const {
  PV_ASSIGN_OR_RETURN(Graph graph, Program(position));
  std::string text;
  for (const Node& node : graph.nodes) {
    double seconds = EstimateSeconds(node);
    if (node.linear && node.kind != OpKind::kBand && node.reused < 0)
      seconds += cost_.MakeSeconds(*node.linear, node.level + 1);
    text += fmt::format("level {:2}  period 2^{:<2}  {:8.4f} s  {:<16} {}\n", node.level,
                        node.log_period, seconds, OpKindName(node.kind), node.name);
  }
  return text;
}

}  // namespace polyveil::compile
