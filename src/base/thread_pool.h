// Pools of threads for loops over independent items: the process' own, and those of contexts that
// want their own. Loops may be nested and may come from
// several threads at once: all share the same workers. An idle worker helps the oldest open loop,
// so that outer items (ciphertexts, sessions) are taken first and inner ones (limbs) when there are
// fewer outer items than threads. A caller runs items of its own loop until none is left; while
// helpers finish theirs it helps loops that those have opened, and no others. Nobody ever waits for
// an item that has not been started, so loops cannot deadlock.
//
// No oversubscription: at most Threads() threads work, callers from outside the pool included. A
// worker that finds more at work goes back to sleep after its item; callers are never held up.
#pragma once

#include <memory>
#include <type_traits>

#include "base/int_types.h"

namespace polyveil {

namespace internal {
class Pool;
}

// Number of threads that a ParallelFor of the calling thread uses, the caller included. Default:
// the CPUs that we may use.
size_t Threads();
// Of the process' own pool. threads >= 1; 0 restores the default. Must not run during a
// ParallelFor.
void SetThreads(size_t threads);

// Threads of its own, beside the process' pool. Workers start with the first loop.
class ThreadPool {
 public:
  explicit ThreadPool(size_t threads);  // threads >= 1, the caller included
  ~ThreadPool();

 private:
  friend class UsePool;
  std::unique_ptr<internal::Pool> pool_;
};

// Loops of the calling thread, and those inside them, run on `pool` while this lives; null: on the
// pool that they would run on anyway. The pool outlives it.
class UsePool {
 public:
  explicit UsePool(ThreadPool* pool);
  ~UsePool();
  UsePool(const UsePool&) = delete;
  UsePool& operator=(const UsePool&) = delete;

 private:
  internal::Pool* const outer_;
};

// Counts the calling thread as one of the Threads() at work while it lives: for a computation that
// goes on between its loops. A ParallelFor does so by itself. Scopes of one thread may nest.
class AtWork {
 public:
  AtWork();
  ~AtWork();
  AtWork(const AtWork&) = delete;
  AtWork& operator=(const AtWork&) = delete;

 private:
  internal::Pool *const pool_, *const outer_;  // counted by this object where they differ
};

namespace internal {
using IndexFunction = void (*)(void* context, size_t index);
void ParallelForErased(size_t count, IndexFunction function, void* context);
}  // namespace internal

// Calls fn(i) once for every i in [0, count), in any order, and returns when all are done.
// fn must not throw. Cost: about a microsecond while the workers are awake, some more to wake them;
// inline when count <= 1.
template <typename Fn>
void ParallelFor(size_t count, Fn&& fn) {
  using F = std::remove_reference_t<Fn>;
  internal::ParallelForErased(
      count, [](void* context, size_t index) { (*static_cast<F*>(context))(index); },
      const_cast<void*>(static_cast<const void*>(std::addressof(fn))));
}

}  // namespace polyveil
