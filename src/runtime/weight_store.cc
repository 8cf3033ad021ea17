#include "runtime/weight_store.h"

#include <algorithm>
#include <utility>

#include "base/system.h"
#include "base/thread_pool.h"

namespace polyveil::runtime {

using compile::LinearMap;

namespace {

// Returns the seconds of both.
double Note(double gathered, double encoded, LatencyTable* latency) {
  if (latency != nullptr) {
    latency->AddPrimitive("gather weights", gathered);
    latency->AddPrimitive("encode", encoded);
  }
  return gathered + encoded;
}

}  // namespace

WeightStore::WeightStore(std::shared_ptr<const compile::CompiledProgram> program,
                         std::optional<size_t> budget)
    : program_(std::move(program)),
      encoder_(program_->params()),
      budget_(budget.value_or(program_->estimate().weight_budget)) {}

Result<WeightStore::Transform> WeightStore::TransformOf(const LinearMap& map, int level,
                                                        double input_scale, double output_scale,
                                                        LatencyTable* latency) {
  const Key key = KeyOf(map, level);
  if (const auto kept = Find(key, input_scale, output_scale)) return kept->transform;
  Timer timer;
  circuits::DiagonalMatrix matrix{program_->params()->log_slots(), {}};
  std::vector<std::vector<compile::Complex>*> diagonals;
  for (const int rotation : map.Rotations()) diagonals.push_back(&matrix.diagonals[rotation]);
  {
    const compile::MapDiagonals made = program_->Diagonals(map);
    ParallelFor(diagonals.size(),
                [&](size_t k) { *diagonals[k] = made.Term(static_cast<int>(k)); });
  }
  const double gathered = timer.Lap();
  PV_ASSIGN_OR_RETURN(auto transform, circuits::LinearTransform::Create(
                                          encoder_, matrix, level, input_scale, output_scale,
                                          map.baby_steps, circuits::CoefficientWords::kShort));
  Kept made{std::make_shared<const circuits::LinearTransform>(std::move(transform)), nullptr,
            input_scale, output_scale};
  made.seconds = Note(gathered, timer.Seconds(), latency);
  made.bytes = made.transform->plaintext_bytes();
  Transform result = made.transform;
  Offer(map, key, std::move(made));
  return result;
}

Result<WeightStore::Factor> WeightStore::FactorOf(const LinearMap& map, int level, double scale,
                                                  LatencyTable* latency) {
  const Key key = KeyOf(map, level);
  if (const auto kept = Find(key, 1, scale)) return kept->factor;
  Timer timer;
  const std::vector<compile::Complex> diagonal = program_->Diagonals(map).Term(0);
  const double gathered = timer.Lap();
  PV_ASSIGN_OR_RETURN(ckks::Plaintext plain,
                      encoder_.Encode(std::span<const compile::Complex>(diagonal), level, scale));
  Kept made{nullptr, std::make_shared<const ckks::Plaintext>(std::move(plain)), 1, scale};
  made.seconds = Note(gathered, timer.Seconds(), latency);
  made.bytes = made.factor->poly.bytes();
  Factor result = made.factor;
  Offer(map, key, std::move(made));
  return result;
}

size_t WeightStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

Result<WeightStore::Bootstrapper> WeightStore::BootstrapperOf(const circuits::BootstrapSpec& spec) {
  const std::lock_guard lock(mutex_);
  Bootstrapper& kept = bootstrappers_[spec];
  if (kept) return kept;
  auto made = circuits::Bootstrapper::Create(program_->params(), encoder_, spec);
  if (!made.ok()) {
    bootstrappers_.erase(spec);
    return made.error();
  }
  kept = std::make_shared<const circuits::Bootstrapper>(*std::move(made));
  return kept;
}

void WeightStore::Report(MemoryReport& report) const {
  size_t plaintexts = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [spec, bootstrapper] : bootstrappers_)
      plaintexts += bootstrapper->plaintext_bytes();
  }
  report.Add("plaintexts of bootstraps", plaintexts);
  report.Add("plaintexts of weights", bytes(), /*pooled=*/false);
}

std::optional<WeightStore::Kept> WeightStore::Find(const Key& key, double input_scale,
                                                   double output_scale) const {
  const std::lock_guard lock(mutex_);
  const auto at = kept_.find(key);
  if (at == kept_.end() || at->second.input_scale != input_scale ||
      at->second.output_scale != output_scale)
    return {};
  return at->second;
}

void WeightStore::Offer(const LinearMap& map, const Key& key, Kept made) {
  if (map.position >= 0) return;  // of one token
  const std::lock_guard lock(mutex_);
  if (kept_.contains(key) || !MakeRoom(made)) return;
  bytes_ += made.bytes;
  kept_.emplace(key, std::move(made));
}

bool WeightStore::MakeRoom(const Kept& made) {
  const auto benefit = [](const Kept& k) { return k.seconds / static_cast<double>(k.bytes + 1); };
  while (bytes_ + made.bytes > budget_) {
    const auto least = std::ranges::min_element(
        kept_, {}, [&](const auto& entry) { return benefit(entry.second); });
    if (least == kept_.end() || 2 * benefit(least->second) > benefit(made)) return false;
    bytes_ -= least->second.bytes;
    kept_.erase(least);
  }
  return true;
}

}  // namespace polyveil::runtime
