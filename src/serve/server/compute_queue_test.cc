// Order, concurrency, cancellation and refusal of the queue of steps.
#include "serve/server/compute_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace polyveil::serve {
namespace {

// Opens once; jobs wait in front of it.
class Gate {
 public:
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(ComputeQueue, RunsInOrderOneAtATime) {
  ComputeQueue queue(10, 1);
  Gate gate;
  std::vector<int> order;
  std::vector<std::shared_ptr<Job>> jobs;
  for (int i = 0; i < 5; ++i)
    jobs.push_back(queue
                       .Submit(nullptr,
                               [&, i](const std::atomic<bool>&) -> Status {
                                 gate.Wait();
                                 order.push_back(i);  // one thread at a time
                                 return {};
                               })
                       .value());
  gate.Open();
  for (const auto& job : jobs) ASSERT_TRUE(job->WaitFor(60));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(ComputeQueue, RunsAsManyAsItHasRunners) {
  ComputeQueue queue(10, 3);
  Gate gate;
  std::atomic<int> inside{0}, most{0};
  std::vector<std::shared_ptr<Job>> jobs;
  for (int i = 0; i < 8; ++i)
    jobs.push_back(queue
                       .Submit(nullptr,
                               [&](const std::atomic<bool>&) -> Status {
                                 const int now = ++inside;
                                 if (now > most) most = now;
                                 if (now == 3) gate.Open();  // three meet, or this test hangs
                                 gate.Wait();
                                 --inside;
                                 return {};
                               })
                       .value());
  for (const auto& job : jobs) {
    ASSERT_TRUE(job->WaitFor(60));
    EXPECT_TRUE(job->status().ok());
    EXPECT_EQ(queue.Ahead(*job), 0u);
  }
  EXPECT_EQ(most, 3);
}

TEST(ComputeQueue, CountsJobsAheadAndRefusesWhenFull) {
  ComputeQueue queue(2, 2);
  Gate gate;
  std::atomic<int> inside{0};
  const auto wait = [&](const std::atomic<bool>&) -> Status {
    ++inside;
    gate.Wait();
    return {};
  };
  std::vector<std::shared_ptr<Job>> jobs;
  for (int i = 0; i < 2; ++i) {
    jobs.push_back(queue.Submit(nullptr, wait).value());
    while (inside <= i) std::this_thread::yield();
  }
  EXPECT_EQ(queue.running(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    jobs.push_back(queue.Submit(nullptr, wait).value());
    EXPECT_EQ(queue.Ahead(*jobs.back()), 2 + i);
  }
  EXPECT_EQ(queue.waiting(), 2u);
  EXPECT_EQ(queue.Submit(nullptr, wait).error().code, ErrorCode::kUnavailable);
  jobs[3]->Cancel();  // before it starts
  gate.Open();
  for (const auto& job : jobs) ASSERT_TRUE(job->WaitFor(60));
  EXPECT_TRUE(jobs[2]->status().ok());
  EXPECT_EQ(jobs[3]->status().error().code, ErrorCode::kCancelled);
}

// One owner's many jobs hold up another's few by one each.
TEST(ComputeQueue, OwnersTakeTurns) {
  ComputeQueue queue(6, 1);
  Gate gate;
  std::atomic<bool> inside{false};
  std::string order;
  const int greedy = 0, modest = 0, late = 0;
  std::vector<std::shared_ptr<Job>> jobs;
  const auto add = [&](const int& owner, char name) {
    jobs.push_back(queue
                       .Submit(&owner,
                               [&, name](const std::atomic<bool>&) -> Status {
                                 inside = true;
                                 gate.Wait();
                                 order.push_back(name);
                                 return {};
                               })
                       .value());
    return queue.Ahead(*jobs.back());
  };
  add(greedy, 'a');
  while (!inside) std::this_thread::yield();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(add(greedy, 'a'), 1 + i);
  EXPECT_EQ(add(modest, 'b'), 2u);
  EXPECT_EQ(add(modest, 'b'), 4u);
  EXPECT_EQ(queue.Ahead(*jobs[4]), 6u);  // all others come first
  EXPECT_EQ(queue.Submit(&modest, {}).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(add(late, 'c'), 3u);  // the queue is full of the others' jobs
  gate.Open();
  for (const auto& job : jobs) ASSERT_TRUE(job->WaitFor(60));
  EXPECT_EQ(order, "aabcabaa");
}

TEST(ComputeQueue, EndsItsJobsAndTurnsExceptionsIntoErrors) {
  std::vector<std::shared_ptr<Job>> jobs;
  {
    ComputeQueue queue(10, 2);
    for (int i = 0; i < 4; ++i)
      jobs.push_back(queue
                         .Submit(nullptr,
                                 [](const std::atomic<bool>& cancel) -> Status {
                                   while (!cancel) std::this_thread::yield();
                                   return MakeError(ErrorCode::kCancelled, "stopped");
                                 })
                         .value());
  }
  for (const auto& job : jobs) {
    ASSERT_TRUE(job->WaitFor(0));
    EXPECT_EQ(job->status().error().code, ErrorCode::kCancelled);
  }
  ComputeQueue queue(1, 1);
  const auto job =
      queue.Submit(nullptr, [](const std::atomic<bool>&) -> Status { throw std::bad_alloc(); })
          .value();
  ASSERT_TRUE(job->WaitFor(60));
  EXPECT_EQ(job->status().error().code, ErrorCode::kResource);
}

}  // namespace
}  // namespace polyveil::serve
