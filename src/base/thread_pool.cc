#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/system.h"

namespace polyveil {
namespace {

thread_local bool inside_parallel_for = false;

// One job at a time; the caller works with the workers and waits for those that joined.
class Pool {
 public:
  static Pool& Instance() {
    static Pool pool;
    return pool;
  }

  ~Pool() { StopWorkers(); }

  size_t threads() const { return threads_.load(std::memory_order_relaxed); }

  void SetThreads(size_t threads) {
    const std::lock_guard owner(owner_mutex_);
    StopWorkers();
    threads_.store(threads == 0 ? CpuCount() : threads, std::memory_order_relaxed);
  }

  // False when another thread owns the pool: the caller then runs inline.
  bool TryRun(size_t count, internal::IndexFunction function, void* context) {
    const std::unique_lock owner(owner_mutex_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    StartWorkers();
    {
      std::unique_lock lock(mutex_);
      WaitForWorkers(lock);  // one that woke too late for the last job may still be looking at it
      function_ = function;
      context_ = context;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      ++generation_;
    }
    wake_.notify_all();
    Work();
    std::unique_lock lock(mutex_);
    WaitForWorkers(lock);
    return true;
  }

 private:
  void WaitForWorkers(std::unique_lock<std::mutex>& lock) {
    done_.wait(lock, [this] { return active_ == 0; });
  }

  void StartWorkers() {
    if (!workers_.empty()) return;
    for (size_t i = 1; i < threads(); ++i) workers_.emplace_back([this] { WorkerLoop(); });
  }

  void StopWorkers() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    const std::lock_guard lock(mutex_);
    stop_ = false;
  }

  void WorkerLoop() {
    inside_parallel_for = true;
    std::unique_lock lock(mutex_);
    size_t seen = 0;
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      ++active_;
      lock.unlock();
      Work();
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  void Work() {
    for (;;) {
      const size_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= count_) return;
      function_(context_, index);
    }
  }

  std::mutex owner_mutex_;  // held by the thread whose job runs
  std::atomic<size_t> threads_{CpuCount()};
  std::vector<std::thread> workers_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  internal::IndexFunction function_ = nullptr;
  void* context_ = nullptr;
  size_t count_ = 0;
  std::atomic<size_t> next_{0};
  size_t generation_ = 0;
  size_t active_ = 0;
  bool stop_ = false;
};

}  // namespace

size_t Threads() { return Pool::Instance().threads(); }
void SetThreads(size_t threads) { Pool::Instance().SetThreads(threads); }

namespace internal {

void ParallelForErased(size_t count, IndexFunction function, void* context) {
  if (count > 1 && !inside_parallel_for && Pool::Instance().threads() > 1) {
    inside_parallel_for = true;
    const bool ran = Pool::Instance().TryRun(count, function, context);
    inside_parallel_for = false;
    if (ran) return;
  }
  for (size_t i = 0; i < count; ++i) function(context, i);
}

}  // namespace internal
}  // namespace polyveil
