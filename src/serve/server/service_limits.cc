#include "serve/server/service_limits.h"

#include <algorithm>

#include "base/system.h"
#include "base/thread_pool.h"
#include "compile/compiled_decoder.h"
#include "wire/ciphertext_format.h"

namespace polyveil::serve {

u64 KeyMemoryLimit(const ServiceLimits& limits) {
  return limits.key_memory_bytes != 0 ? limits.key_memory_bytes : MemoryBytes() / 4 * 3;
}

size_t RunningSteps(const compile::CompiledProgram& model, const ServiceLimits& limits) {
  if (limits.running_steps > 0) return limits.running_steps;
  const compile::Estimate& estimate = model.estimate();
  const u64 step_bytes =
      std::max<u64>(1, estimate.server_bytes - estimate.key_bytes_memory - estimate.weight_bytes);
  const u64 machine = MemoryBytes(), keys = KeyMemoryLimit(limits);
  const size_t threads = Threads();
  if (machine == 0) return threads;
  const u64 room = machine > keys ? (machine - keys) / step_bytes : 0;
  return std::clamp<size_t>(room, 1, threads);
}

u64 LargestBody(const compile::CompiledDecoder& model) {
  const ckks::Parameters& params = *model.params();
  u64 largest = wire::TokenBytes(params, model.input_level());
  for (const auto& prompt : model.prompts())
    largest = std::max<u64>(largest, static_cast<u64>(prompt->token_layout().ciphertexts()) *
                                         wire::TokenBytes(params, prompt->input_level()));
  if (model.choice())
    largest =
        std::max<u64>(largest, wire::TokenBytes(params, model.choice()->prompt()->input_level()));
  return largest;
}

double HousekeepingPeriod(const ServiceLimits& limits) {
  const double shortest =
      std::min({limits.upload_idle_seconds, limits.key_idle_seconds, limits.session_idle_seconds});
  return std::clamp(shortest / 4, 0.02, 1.0);
}

}  // namespace polyveil::serve
