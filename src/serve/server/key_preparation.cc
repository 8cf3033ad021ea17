#include "serve/server/key_preparation.h"

namespace polyveil::serve {
namespace {

Status Prepare(const std::shared_ptr<runtime::WeightStore>& weights, KeySet& set) {
  std::shared_ptr<const ckks::EvaluationKeys> keys;
  {
    const std::lock_guard lock(set.mutex);
    if (set.removed) {
      return MakeError(ErrorCode::kCancelled, "keys '{}' were removed", set.handle);
    }
    keys = std::make_shared<ckks::EvaluationKeys>(set.reader->TakeKeys());
  }
  PV_ASSIGN_OR_RETURN(auto engine, runtime::Engine::Create(weights, std::move(keys)));
  const std::lock_guard lock(set.mutex);
  set.engine = std::move(engine);
  return {};
}

}  // namespace

Result<std::shared_ptr<Job>> PrepareKeys(std::shared_ptr<runtime::WeightStore> weights,
                                         const std::shared_ptr<KeySet>& set, ComputeQueue& queue) {
  const std::lock_guard lock(set->mutex);
  if (set->preparation) return set->preparation;
  if (!set->reader || !set->reader->complete()) {
    const u64 received = set->reader ? set->reader->received() : 0;
    return MakeError(ErrorCode::kMismatch, "evaluation keys: {} bytes received, chunk {} is next",
                     received, set->next_chunk);
  }
  // The job holds the set: what is claimed stays claimed until the job has let go.
  const auto run = [weights = std::move(weights), pin = Pin(set)](const std::atomic<bool>&) {
    return Prepare(weights, *pin);
  };
  PV_ASSIGN_OR_RETURN(set->preparation, queue.Submit(set.get(), run));
  return set->preparation;
}

}  // namespace polyveil::serve
