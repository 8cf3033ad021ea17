// Long computations, a few at a time: owners (clients) take turns, the jobs of one owner start in
// the order of arrival. Each runner counts as one of the pool's threads: with as many runners at
// work as threads, no loop inside is split any more; with fewer, idle threads help inside.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace polyveil::serve {

// Between two looks at a client that may have left.
inline constexpr double kPollSeconds = 0.05;

// A computation and what its waiter may see of it.
class Job {
 public:
  explicit Job(std::function<Status(const std::atomic<bool>&)> run) : run_(std::move(run)) {}
  void Cancel() { cancel_ = true; }
  // True once finished; waits at most `seconds`.
  bool WaitFor(double seconds);
  // Requires a true WaitFor.
  const Status& status() const { return status_; }

 private:
  friend class ComputeQueue;
  std::function<Status(const std::atomic<bool>&)> run_;
  std::atomic<bool> cancel_{false};
  std::mutex mutex_;
  std::condition_variable finished_;
  bool done_ = false;
  Status status_;
};

// A job holds references to the frame that submitted it: the frame ends after the job, however it
// ends.
struct JobGuard {
  Job& job;
  ~JobGuard() {
    job.Cancel();
    while (!job.WaitFor(60)) {
    }
  }
};

class ComputeQueue {
 public:
  // At most `runners` (>= 1) jobs run at the same time.
  ComputeQueue(size_t max_waiting, size_t runners);
  ~ComputeQueue();  // cancels everything

  // `run` is called on a thread of the queue with a flag that asks it to stop. Its exceptions
  // become errors (kResource for memory). `owner` is compared, never followed. Errors: kUnavailable
  // when the queue is full (both values); an owner with none waiting may always add one.
  Result<std::shared_ptr<Job>> Submit(const void* owner,
                                      std::function<Status(const std::atomic<bool>&)> run);
  // Jobs that start before this one, and the running ones; 0 once it runs.
  size_t Ahead(const Job& job) const;
  size_t running() const;
  size_t waiting() const;

 private:
  // Jobs of one owner that wait; never empty.
  struct Lane {
    const void* owner;
    std::deque<std::shared_ptr<Job>> jobs;
  };

  void Work();
  static void Execute(Job& job);
  // These require mutex_.
  std::shared_ptr<Job> TakeNext();
  size_t Waiting() const;

  const size_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Lane> lanes_;  // in the order of their turns
  std::vector<std::shared_ptr<Job>> running_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace polyveil::serve
