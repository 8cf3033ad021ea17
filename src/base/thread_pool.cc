#include "base/thread_pool.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/system.h"

namespace polyveil {
namespace internal {

// Lives on its caller's stack; nobody touches it once `helpers` is zero and it is no longer open.
struct Loop {
  IndexFunction function;
  void* context;
  size_t count;
  const Loop* parent;  // whose item opened this one
  std::atomic<size_t> next{0};
  std::atomic<size_t> helpers{0};  // raised under the pool's mutex, while the loop is open

  bool exhausted() const { return next.load(std::memory_order_relaxed) >= count; }
  bool IsInside(const Loop* ancestor) const {
    const Loop* loop = this;
    while (loop != nullptr && loop != ancestor) loop = loop->parent;
    return loop == ancestor;
  }
};

namespace {

thread_local const Loop* current_loop = nullptr;  // whose item this thread runs
thread_local Pool* current_pool = nullptr;        // of this thread's loops; null: the process' own
thread_local Pool* at_work_in = nullptr;          // counted among this pool's

void RunItem(const Loop& loop, size_t index) {
  const Loop* const outer = current_loop;
  current_loop = &loop;
  loop.function(loop.context, index);
  current_loop = outer;
}

// Polls `done` for as long as a thread would take to be woken. Loops follow each other within
// microseconds, and sleeping in between costs more than it saves.
template <typename Done>
bool Spin(Done&& done) {
  constexpr auto kPatience = std::chrono::microseconds(20);
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() - start < kPatience);
  return false;
}

}  // namespace

class Pool {
 public:
  explicit Pool(size_t threads) : threads_(threads) {}
  static Pool& OfProcess() {
    // At exit its threads end before OpenSSL cleans up: each frees what OpenSSL keeps for it.
    [[maybe_unused]] static const int initialised = OPENSSL_init_crypto(0, nullptr);
    static Pool pool(CpuCount());
    return pool;
  }
  static Pool& Current() { return current_pool != nullptr ? *current_pool : OfProcess(); }

  ~Pool() { StopWorkers(); }

  size_t threads() const { return threads_.load(std::memory_order_relaxed); }

  void SetThreads(size_t threads) {
    StopWorkers();
    threads_.store(threads == 0 ? CpuCount() : threads, std::memory_order_relaxed);
  }

  void Run(size_t count, IndexFunction function, void* context) {
    const AtWork scope;
    Loop loop{function, context, count, current_loop};
    Open(loop);
    for (;;) {
      const size_t index = loop.next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) break;
      RunItem(loop, index);
    }
    Close(loop);
    WaitForHelpers(loop);
  }

  void Enter() { working_.fetch_add(1); }

  // Room for a worker, if one was held back from a loop that is still open.
  void Leave() {
    if (working_.fetch_sub(1) < threads()) return;
    const std::lock_guard lock(mutex_);
    if (open_.empty()) return;
    ++epoch_;
    wake_.notify_one();
  }

 private:
  void Open(Loop& loop) {
    size_t wanted = 0;
    bool owners = false;
    {
      const std::lock_guard lock(mutex_);
      StartWorkers();
      open_.push_back(&loop);
      owners = loop.parent != nullptr && waiting_owners_.load() > 0;
      if (working_.load() < threads()) {
        wanted = std::min(sleeping_, loop.count - 1);
        ++epoch_;
      } else if (owners) {
        ++epoch_;
      }
    }
    for (; wanted > 0; --wanted) wake_.notify_one();
    if (owners) owners_.notify_all();
  }

  void Close(Loop& loop) {
    const std::lock_guard lock(mutex_);
    open_.erase(std::find(open_.begin(), open_.end(), &loop));
  }

  // The oldest open loop with items left, for a worker; inside `ancestor`, for that loop's owner.
  Loop* Join(const Loop* ancestor) {
    const std::lock_guard lock(mutex_);
    if (ancestor == nullptr && working_.load() >= threads()) return nullptr;
    for (Loop* loop : open_) {
      if (loop->exhausted() || (ancestor != nullptr && !loop->IsInside(ancestor))) continue;
      loop->helpers.fetch_add(1);
      if (ancestor == nullptr) working_.fetch_add(1);
      return loop;
    }
    return nullptr;
  }

  // Ends this worker's share when there are more at work than allowed.
  bool Yield() {
    size_t working = working_.load(std::memory_order_relaxed);
    while (working > threads())
      if (working_.compare_exchange_weak(working, working - 1)) return true;
    return false;
  }

  // Items of a joined loop. A worker stops early when it must; true: it is no longer at work.
  bool Help(Loop& loop, bool worker) {
    bool yielded = false;
    while (!loop.exhausted() && !(worker && (yielded = Yield()))) {
      const size_t index = loop.next.fetch_add(1, std::memory_order_relaxed);
      if (index < loop.count) RunItem(loop, index);
    }
    if (loop.helpers.fetch_sub(1) == 1 && waiting_owners_.load() > 0) {
      { const std::lock_guard lock(mutex_); }  // the owner is asleep or has not looked yet
      owners_.notify_all();
    }
    return yielded;
  }

  void WaitForHelpers(Loop& loop) {
    while (loop.helpers.load() != 0) {
      const size_t seen = epoch_.load();
      if (Loop* const inner = Join(&loop)) {
        Help(*inner, /*worker=*/false);
        continue;
      }
      const auto done = [&] { return loop.helpers.load() == 0 || epoch_.load() != seen; };
      if (Spin(done)) continue;
      std::unique_lock lock(mutex_);
      waiting_owners_.fetch_add(1);
      owners_.wait(lock, done);
      waiting_owners_.fetch_sub(1);
    }
  }

  void WorkerLoop() {
    current_pool = at_work_in = this;  // Join counts it
    for (;;) {
      const size_t seen = epoch_.load();
      if (Loop* const loop = Join(nullptr)) {
        if (!Help(*loop, /*worker=*/true)) working_.fetch_sub(1);
        continue;
      }
      const auto news = [&] { return stop_.load() || epoch_.load() != seen; };
      if (!Spin(news)) {
        std::unique_lock lock(mutex_);
        ++sleeping_;
        wake_.wait(lock, news);
        --sleeping_;
      }
      if (stop_.load()) return;
    }
  }

  void StartWorkers() {
    if (!workers_.empty()) return;
    // Where the system grants fewer threads than asked for, those that there are do the work.
    try {
      for (size_t i = 1; i < threads(); ++i) workers_.emplace_back([this] { WorkerLoop(); });
    } catch (const std::system_error&) {
      threads_.store(workers_.size() + 1, std::memory_order_relaxed);
    }
  }

  void StopWorkers() {
    std::vector<std::thread> workers;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      workers.swap(workers_);
    }
    wake_.notify_all();
    for (std::thread& worker : workers) worker.join();
    stop_ = false;
  }

  std::atomic<size_t> threads_;
  std::atomic<size_t> working_{0};  // threads inside the pool's loops, or AtWork
  std::atomic<size_t> epoch_{0};    // raised under mutex_ when somebody may find something to do
  std::atomic<size_t> waiting_owners_{0};
  std::atomic<bool> stop_{false};

  std::mutex mutex_;
  std::condition_variable wake_, owners_;
  std::vector<std::thread> workers_;  // guarded by mutex_
  std::vector<Loop*> open_;           // guarded by mutex_; oldest first
  size_t sleeping_ = 0;               // guarded by mutex_: workers in wake_
};

void ParallelForErased(size_t count, IndexFunction function, void* context) {
  if (count > 1 && Pool::Current().threads() > 1) {
    Pool::Current().Run(count, function, context);
    return;
  }
  for (size_t i = 0; i < count; ++i) function(context, i);
}

}  // namespace internal

size_t Threads() { return internal::Pool::Current().threads(); }
void SetThreads(size_t threads) { internal::Pool::OfProcess().SetThreads(threads); }

ThreadPool::ThreadPool(size_t threads) : pool_(std::make_unique<internal::Pool>(threads)) {}
ThreadPool::~ThreadPool() = default;

UsePool::UsePool(ThreadPool* pool) : outer_(internal::current_pool) {
  if (pool != nullptr) internal::current_pool = pool->pool_.get();
}
UsePool::~UsePool() { internal::current_pool = outer_; }

AtWork::AtWork() : pool_(&internal::Pool::Current()), outer_(internal::at_work_in) {
  if (pool_ == outer_) return;
  internal::at_work_in = pool_;
  pool_->Enter();
}

AtWork::~AtWork() {
  if (pool_ == outer_) return;
  internal::at_work_in = outer_;
  pool_->Leave();
}

}  // namespace polyveil
