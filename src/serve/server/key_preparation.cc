#include "serve/server/key_preparation.h"

namespace polyveil::serve {
namespace {

Status Prepare(const SharedModel& shared, KeySet& set) {
  std::shared_ptr<const ckks::EvaluationKeys> keys;
  {
    const std::lock_guard lock(set.mutex);
    if (set.removed) {
      return MakeError(ErrorCode::kCancelled, "keys '{}' were removed", set.handle);
    }
    keys = std::make_shared<ckks::EvaluationKeys>(set.reader->TakeKeys());
  }
  PV_ASSIGN_OR_RETURN(auto engine, runtime::Engine::Create(shared.weights, keys));
  const auto& programs = shared.model->prompts();
  std::vector<std::shared_ptr<const runtime::Engine>> prompts(programs.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    PV_ASSIGN_OR_RETURN(prompts[i], runtime::Engine::Create(shared.weights, keys, programs[i]));
  }
  std::shared_ptr<const runtime::ChoiceEngines> choice;
  if (shared.choice_weights) {
    PV_ASSIGN_OR_RETURN(choice, runtime::ChoiceEngines::Create(shared.choice_weights, keys,
                                                               shared.model->choice()));
  }
  const std::lock_guard lock(set.mutex);
  set.engine = std::move(engine);
  set.prompts = std::move(prompts);
  set.choice = std::move(choice);
  return {};
}

}  // namespace

SharedModel SharedModel::Create(std::shared_ptr<const compile::CompiledDecoder> model,
                                std::optional<u64> weight_bytes) {
  SharedModel shared;
  shared.weights = std::make_shared<runtime::WeightStore>(model, weight_bytes);
  if (model->choice())
    shared.choice_weights = std::make_shared<runtime::WeightStore>(model->choice(), weight_bytes);
  shared.model = std::move(model);
  return shared;
}

Result<std::shared_ptr<Job>> PrepareKeys(const SharedModel& shared,
                                         const std::shared_ptr<KeySet>& set, ComputeQueue& queue) {
  const std::lock_guard lock(set->mutex);
  if (set->preparation) return set->preparation;
  if (!set->reader || !set->reader->complete()) {
    const u64 received = set->reader ? set->reader->received() : 0;
    return MakeError(ErrorCode::kMismatch, "evaluation keys: {} bytes received, chunk {} is next",
                     received, set->next_chunk);
  }
  // The job holds the set: what is claimed stays claimed until the job has let go.
  const auto run = [shared, pin = Pin(set)](const std::atomic<bool>&) {
    return Prepare(shared, *pin);
  };
  PV_ASSIGN_OR_RETURN(set->preparation, queue.Submit(set.get(), run));
  return set->preparation;
}

}  // namespace polyveil::serve
