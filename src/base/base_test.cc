// Pool, threads, random streams, digests, progress.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "base/buffer.h"
#include "base/csprng.h"
#include "base/digest.h"
#include "base/memory_report.h"
#include "base/page_arena.h"
#include "base/progress.h"
#include "base/secure_memory.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "base/worst.h"

namespace polyveil {
namespace {

TEST(Buffer, AlignedAndReusedAfterFree) {
  buffer_pool::Trim();
  const size_t in_use = buffer_pool::GetStats().bytes_in_use;
  const u64* first;
  {
    Buffer buffer(3 << 16);
    first = buffer.data();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0u);
    EXPECT_GE(buffer_pool::GetStats().bytes_in_use, in_use + buffer.size() * 8);
  }
  EXPECT_EQ(buffer_pool::GetStats().bytes_in_use, in_use);
  EXPECT_GT(buffer_pool::GetStats().bytes_cached, 0u);
  Buffer again(3 << 16);
  EXPECT_EQ(again.data(), first);
  again = Buffer();
  buffer_pool::Trim();
  EXPECT_EQ(buffer_pool::GetStats().bytes_cached, 0u);
}

TEST(Buffer, CopyMoveAndEmpty) {
  Buffer a(100);
  std::iota(a.data(), a.data() + 100, u64{7});
  Buffer b = a;
  ASSERT_EQ(b.size(), 100u);
  EXPECT_NE(a.data(), b.data());
  EXPECT_EQ(0, std::memcmp(a.data(), b.data(), 800));
  Buffer c = std::move(b);
  EXPECT_EQ(c[99], 106u);
  EXPECT_EQ(b.data(), nullptr);  // NOLINT(bugprone-use-after-move): what is left is looked at
  b = c;
  EXPECT_EQ(b[0], 7u);
  c.Wipe();
  EXPECT_EQ(c[99], 0u);
  Buffer empty(0), copy = empty;
  empty.Zero();
  EXPECT_EQ(copy.size(), 0u);
}

TEST(BufferPool, WhatIsFreedServesOtherSizes) {
  constexpr size_t kMegabyte = size_t{1} << 17;  // words
  buffer_pool::Trim();
  const u64* start;
  {
    const Buffer whole(8 * kMegabyte);
    start = whole.data();
  }
  {
    const Buffer first(3 * kMegabyte), second(5 * kMegabyte);
    EXPECT_EQ(std::min(first.data(), second.data()), start);
    EXPECT_EQ(buffer_pool::GetStats().bytes_cached, 0u);
  }
  const Buffer again(8 * kMegabyte);
  EXPECT_EQ(again.data(), start);
}

TEST(BufferPool, KeepsItsLimit) {
  constexpr size_t kMegabyte = size_t{1} << 17;  // words
  buffer_pool::Trim();
  buffer_pool::SetCacheLimit(size_t{6} << 20);
  { const Buffer large(16 * kMegabyte); }
  EXPECT_EQ(buffer_pool::GetStats().bytes_cached, size_t{6} << 20);
  {
    const buffer_pool::KeepFree outer;
    { const buffer_pool::KeepFree inner; }
    { const Buffer large(16 * kMegabyte); }
    EXPECT_GE(buffer_pool::GetStats().bytes_cached, size_t{16} << 20);
  }
  EXPECT_EQ(buffer_pool::GetStats().bytes_cached, size_t{6} << 20);
  buffer_pool::SetCacheLimit(size_t{2} << 30);
}

TEST(PageArena, BlocksOfAnySizesKeepTheirWords) {
  PageArena arena;
  std::mt19937_64 random(1);
  struct Block {
    u64* words;
    size_t bytes;
    u64 value;
  };
  std::vector<Block> blocks;
  size_t in_use = 0, most = 0;
  for (u64 i = 0; i < 4000; ++i) {
    if (blocks.size() > 40 || (!blocks.empty() && random() % 2 == 0)) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      const Block block = blocks.back();
      blocks.pop_back();
      ASSERT_EQ(block.words[0], block.value);
      ASSERT_EQ(block.words[block.bytes / 8 - 1], block.value);
      arena.Free(block.words, block.bytes);
      in_use -= block.bytes;
      if (random() % 16 == 0) {
        arena.ReleaseBeyond(size_t{1} << 20);
        EXPECT_LE(arena.free_bytes(), size_t{1} << 20);
      }
    } else {
      const size_t bytes = (1 + random() % 500) * PageArena::kGranule;
      auto* words = static_cast<u64*>(arena.Allocate(bytes));
      ASSERT_NE(words, nullptr);
      words[0] = words[bytes / 8 - 1] = i;
      blocks.push_back({words, bytes, i});
      in_use += bytes;
    }
    most = std::max(most, in_use);
  }
  EXPECT_LT(in_use + arena.free_bytes(), 2 * most + (size_t{4} << 20));
  for (const Block& block : blocks) arena.Free(block.words, block.bytes);
  arena.ReleaseBeyond(0);
  EXPECT_EQ(arena.free_bytes(), 0u);
}

TEST(Buffer, CacheLimitReturnsBlocks) {
  buffer_pool::SetCacheLimit(0);
  { Buffer buffer(1 << 18); }
  EXPECT_EQ(buffer_pool::GetStats().bytes_cached, 0u);
  buffer_pool::SetCacheLimit(size_t{2} << 30);
}

TEST(Buffer, ThreadsShareThePool) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (size_t i = 0; i < 300; ++i) {
        Buffer buffer(1000 + 5000 * (i % 7));
        buffer[0] = static_cast<u64>(t);
        buffer[buffer.size() - 1] = i;
        ASSERT_EQ(buffer[0], static_cast<u64>(t));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(MemoryReport, AddsUpToThePool) {
  MemoryReport report;
  const Buffer words(1 << 20), more(1 << 10);
  report.Add("words", words.size() * sizeof(u64));
  report.Add("table", 1000, /*pooled=*/false);
  report.Add("words", more.size() * sizeof(u64));
  report.Finish();
  EXPECT_EQ(report.BytesOf("words"), (words.size() + more.size()) * sizeof(u64));
  EXPECT_EQ(report.BytesOf("table"), 1000u);
  EXPECT_EQ(report.BytesOf("nothing"), 0u);
  const buffer_pool::Stats stats = buffer_pool::GetStats();
  EXPECT_EQ(report.pooled_bytes(), stats.bytes_in_use);
  EXPECT_EQ(report.BytesOf(MemoryReport::kWorking), stats.bytes_in_use - report.BytesOf("words"));
  EXPECT_EQ(report.BytesOf(MemoryReport::kCached), stats.bytes_cached);
  EXPECT_GT(report.BytesOf(MemoryReport::kPeakRss), 0u);
  EXPECT_EQ(report.entries().front().name, "words");
}

TEST(ThreadPool, EveryIndexOnceNestedAndConcurrent) {
  for (const size_t threads : {1, 2, 5}) {
    SetThreads(threads);
    EXPECT_EQ(Threads(), threads);
    for (const size_t count : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> hits(count * 3);
      ParallelFor(count, [&](size_t i) {
        ParallelFor(3, [&](size_t j) { hits[3 * i + j].fetch_add(1); });
      });
      for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    }
  }
  std::atomic<size_t> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int r = 0; r < 200; ++r) ParallelFor(10, [&](size_t i) { sum += i; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 3u * 200 * 45);
  SetThreads(0);
  EXPECT_EQ(Threads(), CpuCount());
}

Seed CountingSeed() {
  Seed seed;
  std::iota(seed.begin(), seed.end(), std::uint8_t{0});
  return seed;
}

TEST(Csprng, DeterministicAndSeparated) {
  const Seed seed = CountingSeed();
  Prng a(seed, "one"), b(seed, "one"), c(seed, "two"), d(seed, "one", 1);
  const u64 first = a.Next64();
  EXPECT_EQ(first, b.Next64());
  EXPECT_NE(first, c.Next64());
  EXPECT_NE(first, d.Next64());
  // Fill in odd parts is the same stream.
  std::vector<std::uint8_t> whole(10000), parts(10000);
  a.Fill(whole.data(), whole.size());
  size_t at = 0;
  for (size_t step = 1; at < parts.size(); step = step * 2 + 1) {
    const size_t part = std::min(step, parts.size() - at);
    b.Fill(parts.data() + at, part);
    at += part;
  }
  EXPECT_EQ(whole, parts);
  EXPECT_NE(RandomSeed(), RandomSeed());
}

TEST(Csprng, KnownAnswers) {
  const Seed seed = CountingSeed();
  std::uint8_t secret[8];
  Prng(seed, "test").Fill(secret, sizeof(secret));
  EXPECT_EQ(ToHex(secret), "76772673b7c67eec");
  u64 words[2];
  UniformStream(seed, "test").Fill(words);
  EXPECT_EQ(ToHex({reinterpret_cast<std::uint8_t*>(words), 16}),
            "30d63b5ad57cf72c86949415357e01bd");
  EXPECT_EQ(ToHex(DeriveSeed(seed, "test", 3)),
            "ab13cb062f8164f6ee05bdd0e571e4aa650b02ba462b400d8a620ad9df41ee28");
}

TEST(Csprng, UniformStreamContinues) {
  const Seed seed = CountingSeed();
  std::vector<u64> whole(1000), parts(1000);
  UniformStream(seed, "x", 5).Fill(whole);
  UniformStream stream(seed, "x", 5);
  stream.Fill(std::span(parts).first(333));
  stream.Fill(std::span(parts).subspan(333));
  EXPECT_EQ(whole, parts);
}

TEST(Digest, HexRoundTripAndErrors) {
  const Digest digest = HashBytes("d", CountingSeed());
  EXPECT_EQ(DigestFromHex(ToHex(digest)).value(), digest);
  EXPECT_NE(digest, HashBytes("e", CountingSeed()));
  EXPECT_FALSE(DigestFromHex("ab").ok());
  EXPECT_FALSE(DigestFromHex(std::string(64, 'g')).ok());
  EXPECT_FALSE(DigestFromHex(std::string(66, 'a')).ok());
}

TEST(SecureMemory, EqualAndWipe) {
  SecureVector<u64> a(10, 3), b(10, 3);
  EXPECT_TRUE(SecureEqual(a.data(), b.data(), 80));
  b[9] = 4;
  EXPECT_FALSE(SecureEqual(a.data(), b.data(), 80));
  SecureWipe(a.data(), 80);
  EXPECT_EQ(a[5], 0u);
}

TEST(Progress, ReportsAndCancels) {
  std::vector<std::pair<std::string, u64>> seen;
  Progress progress([&](const ProgressReport& r) { seen.emplace_back(r.label, r.done); });
  progress.Start(10, "keys");
  progress.Advance(3);
  progress.Advance(2, "rotation");
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[1], (std::pair<std::string, u64>{"keys", 3}));
  EXPECT_EQ(seen[2], (std::pair<std::string, u64>{"rotation", 5}));
  EXPECT_TRUE(progress.Check().ok());
  progress.Cancel();
  EXPECT_EQ(progress.Check().error().code, ErrorCode::kCancelled);
}

TEST(Worst, NaNIsWorseThanEverything) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Worse(1, 2), 2);
  EXPECT_EQ(WorseMargin(1, 2), 1);
  for (const double other : {-infinity, 0.0, infinity, nan}) {
    EXPECT_EQ(Worse(nan, other), infinity);
    EXPECT_EQ(Worse(other, nan), infinity);
    EXPECT_EQ(WorseMargin(nan, other), -infinity);
    EXPECT_EQ(WorseMargin(other, nan), -infinity);
  }
  using Values = std::vector<double>;
  EXPECT_EQ(LargestDifference(Values{1, 2, 3}, Values{1, 2.5, 3}), 0.5);
  EXPECT_EQ(LargestDifference(Values{}, Values{}), 0);
  EXPECT_EQ(LargestDifference(Values{nan, 1}, Values{0, 1}), infinity);
  EXPECT_EQ(LargestDifference(Values{0, 1}, Values{0, nan}), infinity);
  EXPECT_EQ(LargestDifference(Values{infinity}, Values{infinity}), infinity);
  EXPECT_EQ(LargestDifference(Values{1}, Values{1, 2}), infinity);
  EXPECT_TRUE(AllFinite(Values{-1, 0, 1e308}));
  EXPECT_FALSE(AllFinite(Values{0, nan}));
  EXPECT_FALSE(AllFinite(Values{-infinity}));
}

TEST(System, SaysSomething) {
  EXPECT_GT(PeakRssBytes(), 0u);
  EXPECT_GT(CurrentRssBytes(), 0u);
  EXPECT_FALSE(CpuName().empty());
  EXPECT_GE(CpuCount(), 1u);
}

}  // namespace
}  // namespace polyveil
