// What a server grants before it refuses.
#pragma once

#include <optional>

#include "base/int_types.h"
#include "ckks/key_storage.h"

namespace polyveil::compile {
class CompiledProgram;
class CompiledDecoder;
}  // namespace polyveil::compile

namespace polyveil::serve {

struct ServiceLimits {
  u64 chunk_bytes = u64{8} << 20;
  size_t key_sets = 8;
  u64 key_memory_bytes = 0;  // of all sets; 0: three quarters of MemoryBytes()
  ckks::KeyStorage key_storage = ckks::KeyStorage::kAuto;
  // kAuto: hot keys of a set are expanded up to this size, less when key_memory_bytes has no room.
  u64 key_set_bytes = 3'000'000'000;
  u64 public_bytes = u64{256} << 20;  // keys and values of public contexts
  // Of the weights' plaintexts, which all clients share; nothing: half of the free memory.
  std::optional<u64> weight_bytes;
  size_t sessions = 32;
  size_t waiting_steps = 32;
  // Steps of different sessions at the same time; 0: one per thread, as far as memory allows.
  size_t running_steps = 0;
  double upload_idle_seconds = 180;  // without a new chunk; longer than the slowest chunk
  double key_idle_seconds = 6 * 3600;
  double session_idle_seconds = 6 * 3600;
  double collect_seconds = 7 * 24 * 3600;  // a submitted text that is over waits for its client
  // When another client needs the place: idle ones give it up, and sooner when the connection of
  // their last use has ended.
  double yield_seconds = 600;
  double left_seconds = 5;
  double lease_seconds = 10;  // a step waits so long for the one before it
};

// Of all key sets together; 0: unlimited, the memory that this process may use being unknown.
u64 KeyMemoryLimit(const ServiceLimits& limits);
// At the same time: each has a working set of its own beside the keys.
size_t RunningSteps(const compile::CompiledProgram& model, const ServiceLimits& limits);
// Of a step or a prompt.
u64 LargestBody(const compile::CompiledDecoder& model);
// Often enough that nothing outlives its time by more than a quarter.
double HousekeepingPeriod(const ServiceLimits& limits);

}  // namespace polyveil::serve
