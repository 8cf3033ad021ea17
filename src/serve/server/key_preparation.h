// From a complete upload to an engine.
#pragma once

#include <memory>
#include <optional>

#include "compile/compiled_decoder.h"
#include "runtime/weight_store.h"
#include "serve/server/compute_queue.h"
#include "serve/server/key_set.h"

namespace polyveil::serve {

// A model and what all clients' engines share of it.
struct SharedModel {
  std::shared_ptr<const compile::CompiledDecoder> model;
  std::shared_ptr<runtime::WeightStore> weights;
  std::shared_ptr<runtime::WeightStore> choice_weights;  // of the model's choice, or null

  // weight_bytes: of each store; nothing: what it takes by itself.
  static SharedModel Create(std::shared_ptr<const compile::CompiledDecoder> model,
                            std::optional<u64> weight_bytes);
};

// The job that prepares the keys; the one under way or finished, when asked again. The keys stay
// in their set all the time. Errors: kMismatch (bytes received), kUnavailable (the queue is full:
// nothing has changed).
Result<std::shared_ptr<Job>> PrepareKeys(const SharedModel& shared,
                                         const std::shared_ptr<KeySet>& set, ComputeQueue& queue);

}  // namespace polyveil::serve
