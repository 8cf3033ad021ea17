#include "bench/measure.h"

#include <ctime>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "bench/ceilings.h"

namespace polyveil::bench {
namespace {

constexpr size_t kReadWords = size_t{16} << 20;  // 128 MB per thread: more than any cache here
constexpr u64 kRounds = 20000;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Items per second of fn(thread), which returns its number of items, on every thread at once.
template <typename Fn>
double Rate(size_t threads, int repetitions, Fn&& fn) {
  std::vector<double> done(threads);
  const Measured measured = Measure(repetitions, 1, [&] {
    ParallelFor(threads, [&](size_t i) { done[i] = static_cast<double>(fn(i)); });
  });
  double total = 0;
  for (const double items : done) total += items;
  return total / measured.least_seconds;
}

}  // namespace

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Measured Summarise(std::vector<double> seconds, std::vector<double> cpu_seconds) {
  if (seconds.empty()) return {};
  Measured result;
  result.least_seconds = *std::min_element(seconds.begin(), seconds.end());
  result.repetitions = static_cast<int>(seconds.size());
  result.seconds = Median(std::move(seconds));
  result.cpu_seconds = Median(std::move(cpu_seconds));
  return result;
}

Ceilings MeasureCeilings(size_t threads, int repetitions) {
  SetThreads(threads);
  Ceilings result;
  result.threads = threads;
  if (HasIfma()) {
    result.butterflies =
        Rate(threads, repetitions, [](size_t) { return RegisterButterflies(kRounds); });
    result.products = Rate(threads, repetitions, [](size_t) { return RegisterProducts(kRounds); });
  }
  std::vector<Buffer> memory;
  for (size_t i = 0; i < threads; ++i) memory.emplace_back(kReadWords).Zero();
  volatile u64 sink = 0;
  result.read_bytes = Rate(threads, repetitions, [&](size_t i) {
    sink = ReadAll(memory[i].data(), kReadWords);
    return 8 * kReadWords;
  });
  return result;
}

double FloorSeconds(const Work& work, const Ceilings& ceilings) {
  if (ceilings.butterflies == 0) return 0;
  const double arithmetic =
      work.butterflies / ceilings.butterflies + work.products / ceilings.products;
  return std::max(arithmetic, work.bytes / ceilings.read_bytes);
}

}  // namespace polyveil::bench
