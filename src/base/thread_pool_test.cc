// Nested and concurrent loops: every item once, helpers where there is room, no more threads at
// work than allowed.
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "base/system.h"

namespace polyveil {
namespace {

// Spends time that no optimiser removes.
void Work(double seconds) {
  const Timer timer;
  while (timer.Seconds() < seconds) {
  }
}

class ThreadPoolTest : public testing::Test {
 protected:
  ~ThreadPoolTest() override { SetThreads(0); }
};

// A tree of loops of random widths: the number of leaves must come out.
u64 RandomTree(u64 seed, int depth) {
  std::mt19937_64 random(seed);
  const size_t width = random() % 7;
  if (depth == 0) return 1;
  std::vector<u64> leaves(width);
  ParallelFor(width, [&](size_t i) { leaves[i] += RandomTree(seed * 31 + i, depth - 1); });
  u64 sum = 0;
  for (const u64 count : leaves) sum += count;
  return sum;
}

TEST_F(ThreadPoolTest, RandomNestedLoopsFromSeveralThreads) {
  std::vector<u64> expected;
  SetThreads(1);
  for (u64 seed = 0; seed < 400; ++seed) expected.push_back(RandomTree(seed, 4));
  for (size_t threads = 1; threads <= 4; ++threads) {
    SetThreads(threads);
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 3; ++caller)
      callers.emplace_back([&] {
        for (u64 seed = 0; seed < expected.size(); ++seed)
          wrong += RandomTree(seed, 4) != expected[seed];
      });
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(wrong, 0) << threads;
  }
}

// Items of the outer loop meet: each must have a thread of its own although they loop inside.
TEST_F(ThreadPoolTest, OuterItemsRunAtTheSameTime) {
  SetThreads(3);
  std::atomic<int> arrived{0};
  ParallelFor(3, [&](size_t) {
    ParallelFor(5, [](size_t) { Work(1e-5); });
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 3);
}

// One outer item is left while the others have finished: their threads take its inner items.
TEST_F(ThreadPoolTest, IdleThreadsHelpInside) {
  SetThreads(3);
  std::atomic<int> inside{0};
  ParallelFor(3, [&](size_t i) {
    if (i != 2) return;
    ParallelFor(3, [&](size_t) {
      ++inside;
      while (inside < 3) std::this_thread::yield();
    });
  });
  EXPECT_EQ(inside, 3);
}

TEST_F(ThreadPoolTest, NeverMoreAtWorkThanAllowed) {
  constexpr size_t kThreads = 3;
  SetThreads(kThreads);
  std::atomic<size_t> working{0}, most{0}, over{0}, items{0};
  const auto item = [&](size_t) {
    const size_t now = ++working;
    for (size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    ++items;
    over += now > kThreads;
    Work(1e-4);
    --working;
  };
  std::vector<std::thread> callers;
  for (size_t k = 0; k < kThreads; ++k)
    callers.emplace_back([&] {
      const AtWork scope;
      for (int r = 0; r < 40; ++r) ParallelFor(20, item);
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(items, kThreads * 40 * 20);
  // Workers leave after the item that they were at when a caller came: a few at the start.
  EXPECT_LE(most, 2 * kThreads - 1);
  EXPECT_LT(over, items / 20);
}

TEST_F(ThreadPoolTest, PoolsOfTheirOwnRunBesideTheProcess) {
  SetThreads(2);
  ThreadPool one(1), three(3);
  const auto run = [](ThreadPool* pool, size_t threads, u64 seed) {
    const UsePool scope(pool);
    EXPECT_EQ(Threads(), threads);
    {
      const UsePool inner(nullptr);  // changes nothing
      EXPECT_EQ(Threads(), threads);
    }
    std::vector<size_t> seen(64);
    ParallelFor(seen.size(), [&](size_t i) { seen[i] = Threads(); });
    for (const size_t count : seen) EXPECT_EQ(count, threads);
    return RandomTree(seed, 5);
  };
  u64 results[3] = {};
  std::thread first([&] { results[0] = run(&one, 1, 7); });
  std::thread second([&] { results[1] = run(&three, 3, 7); });
  results[2] = run(nullptr, 2, 7);
  first.join();
  second.join();
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  EXPECT_EQ(Threads(), 2u);
}

}  // namespace
}  // namespace polyveil
