#include "serve/server/key_preparation.h"

namespace polyveil::serve {
namespace {

Status Prepare(const std::shared_ptr<runtime::WeightStore>& weights,
               const compile::CompiledDecoder& model, KeySet& set) {
  std::shared_ptr<const ckks::EvaluationKeys> keys;
  {
    const std::lock_guard lock(set.mutex);
    if (set.removed) {
      return MakeError(ErrorCode::kCancelled, "keys '{}' were removed", set.handle);
    }
    keys = std::make_shared<ckks::EvaluationKeys>(set.reader->TakeKeys());
  }
  PV_ASSIGN_OR_RETURN(auto engine, runtime::Engine::Create(weights, keys));
  std::vector<std::shared_ptr<const runtime::Engine>> prompts(model.prompts().size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    PV_ASSIGN_OR_RETURN(prompts[i], runtime::Engine::Create(weights, keys, model.prompts()[i]));
  }
  const std::lock_guard lock(set.mutex);
  set.engine = std::move(engine);
  set.prompts = std::move(prompts);
  return {};
}

}  // namespace

Result<std::shared_ptr<Job>> PrepareKeys(std::shared_ptr<runtime::WeightStore> weights,
                                         std::shared_ptr<const compile::CompiledDecoder> model,
                                         const std::shared_ptr<KeySet>& set, ComputeQueue& queue) {
  const std::lock_guard lock(set->mutex);
  if (set->preparation) return set->preparation;
  if (!set->reader || !set->reader->complete()) {
    const u64 received = set->reader ? set->reader->received() : 0;
    return MakeError(ErrorCode::kMismatch, "evaluation keys: {} bytes received, chunk {} is next",
                     received, set->next_chunk);
  }
  // The job holds the set: what is claimed stays claimed until the job has let go.
  const auto run = [weights = std::move(weights), model = std::move(model), pin = Pin(set)](
                       const std::atomic<bool>&) { return Prepare(weights, *model, *pin); };
  PV_ASSIGN_OR_RETURN(set->preparation, queue.Submit(set.get(), run));
  return set->preparation;
}

}  // namespace polyveil::serve
