// One long computation at a time on the machine, in the order of arrival.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"

namespace polyveil::serve {

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

class ComputeQueue {
 public:
  explicit ComputeQueue(size_t max_waiting);
  ~ComputeQueue();  // cancels everything

  // `run` is called on the queue's thread with a flag that asks it to stop. Its exceptions become
  // errors (kResource for memory). Errors: kUnavailable when the queue is full (both values).
  Result<std::shared_ptr<Job>> Submit(std::function<Status(const std::atomic<bool>&)> run);
  // Jobs before this one, the running one included; 0 once it runs.
  size_t Ahead(const Job& job) const;

 private:
  void Work();
  static void Execute(Job& job);

  const size_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::shared_ptr<Job> running_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace polyveil::serve
