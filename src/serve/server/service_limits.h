// What a server grants before it refuses.
#pragma once

#include "base/int_types.h"

namespace polyveil::serve {

struct ServiceLimits {
  u64 chunk_bytes = u64{8} << 20;
  size_t key_sets = 8;
  u64 key_memory_bytes = 0;  // of all sets, expanded; 0: three quarters of the machine's memory
  size_t sessions = 32;
  size_t waiting_steps = 32;
  double upload_idle_seconds = 600;
  double key_idle_seconds = 6 * 3600;
  double session_idle_seconds = 6 * 3600;
};

// Memory of this machine; 0 where unknown.
u64 PhysicalMemoryBytes();

}  // namespace polyveil::serve
