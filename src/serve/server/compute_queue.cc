#include "serve/server/compute_queue.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "base/check.h"
#include "base/thread_pool.h"

namespace polyveil::serve {

bool Job::WaitFor(double seconds) {
  std::unique_lock lock(mutex_);
  return finished_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
}

ComputeQueue::ComputeQueue(size_t max_waiting, size_t runners) : max_waiting_(max_waiting) {
  PV_CHECK(runners >= 1, "{} runners", runners);
  for (size_t i = 0; i < runners; ++i) threads_.emplace_back([this] { Work(); });
}

ComputeQueue::~ComputeQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const Lane& lane : lanes_) {
      for (const auto& job : lane.jobs) job->Cancel();
    }
    for (const auto& job : running_) job->Cancel();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<std::shared_ptr<Job>> ComputeQueue::Submit(
    const void* owner, std::function<Status(const std::atomic<bool>&)> run) {
  auto job = std::make_shared<Job>(std::move(run));
  {
    const std::lock_guard lock(mutex_);
    const auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                                   [&](const Lane& some) { return some.owner == owner; });
    if (lane == lanes_.end()) {
      lanes_.push_back({owner, {job}});
    } else if (const size_t waiting = Waiting(); waiting >= max_waiting_) {
      return MakeError(ErrorCode::kUnavailable, "the queue holds {} waiting steps of at most {}",
                       waiting, max_waiting_);
    } else {
      lane->jobs.push_back(job);
    }
  }
  changed_.notify_all();
  return job;
}

size_t ComputeQueue::Waiting() const {
  size_t count = 0;
  for (const Lane& lane : lanes_) count += lane.jobs.size();
  return count;
}

std::shared_ptr<Job> ComputeQueue::TakeNext() {
  Lane lane = std::move(lanes_.front());
  lanes_.pop_front();
  std::shared_ptr<Job> job = std::move(lane.jobs.front());
  lane.jobs.pop_front();
  if (!lane.jobs.empty()) lanes_.push_back(std::move(lane));
  return job;
}

size_t ComputeQueue::Ahead(const Job& job) const {
  const std::lock_guard lock(mutex_);
  for (size_t own = 0; own < lanes_.size(); ++own) {
    const auto& jobs = lanes_[own].jobs;
    const auto found = std::find_if(jobs.begin(), jobs.end(),
                                    [&](const auto& some) { return some.get() == &job; });
    if (found == jobs.end()) continue;
    const auto rounds = static_cast<size_t>(found - jobs.begin());
    size_t before = running_.size();
    for (size_t i = 0; i < lanes_.size(); ++i) {
      before += std::min(lanes_[i].jobs.size(), rounds + (i < own));
    }
    return before;
  }
  return 0;
}

size_t ComputeQueue::running() const {
  const std::lock_guard lock(mutex_);
  return running_.size();
}

size_t ComputeQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return Waiting();
}

void ComputeQueue::Execute(Job& job) {
  Status status;
  if (job.cancel_) {
    status = MakeError(ErrorCode::kCancelled, "cancelled before it started");
  } else {
    try {
      status = job.run_(job.cancel_);
    } catch (const std::bad_alloc&) {
      status = MakeError(ErrorCode::kResource, "out of memory");
    } catch (const std::exception& exception) {
      status = MakeError(ErrorCode::kIo, "internal: {}", exception.what());
    }
  }
  const std::lock_guard lock(job.mutex_);
  job.run_ = nullptr;  // releases what it holds before anyone learns that it is done
  job.status_ = std::move(status);
  job.done_ = true;
  job.finished_.notify_all();
}

void ComputeQueue::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !lanes_.empty(); });
    if (lanes_.empty()) return;
    const std::shared_ptr<Job> job = TakeNext();
    running_.push_back(job);
    lock.unlock();
    {
      const AtWork scope;
      Execute(*job);
    }
    lock.lock();
    std::erase(running_, job);
  }
}

}  // namespace polyveil::serve
