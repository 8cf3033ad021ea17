// One process-wide pool. Parallelism is across independent items; a ParallelFor inside another, or
// while another thread uses the pool, runs inline, so that the machine is never oversubscribed.
#pragma once

#include <memory>
#include <type_traits>

#include "base/int_types.h"

namespace polyveil {

// Number of threads that a ParallelFor uses, the caller included. Default: the CPUs that we may
// use.
size_t Threads();
// threads >= 1; 0 restores the default. Must not run during a ParallelFor.
void SetThreads(size_t threads);

namespace internal {
using IndexFunction = void (*)(void* context, size_t index);
void ParallelForErased(size_t count, IndexFunction function, void* context);
}  // namespace internal

// Calls fn(i) once for every i in [0, count), in any order, and returns when all are done.
// fn must not throw. Cost: a few microseconds to wake the workers; inline when count <= 1.
template <typename Fn>
void ParallelFor(size_t count, Fn&& fn) {
  using F = std::remove_reference_t<Fn>;
  internal::ParallelForErased(
      count, [](void* context, size_t index) { (*static_cast<F*>(context))(index); },
      const_cast<void*>(static_cast<const void*>(std::addressof(fn))));
}

}  // namespace polyveil
