// Repeated timing of one piece of work, and what the work consists of.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/int_types.h"
#include "base/system.h"

namespace polyveil::bench {

double CpuSeconds();  // of all threads of the process so far

struct Measured {
  double seconds = 0;  // wall, median
  double least_seconds = 0;
  double cpu_seconds = 0;  // all threads together, median
  int repetitions = 0;
};
Measured Summarise(std::vector<double> seconds, std::vector<double> cpu_seconds);

// One unmeasured call, then `repetitions` samples of `batch` calls each; seconds are per call.
template <typename Body>
Measured Measure(int repetitions, int batch, Body&& body) {
  body();
  std::vector<double> seconds, cpu;
  for (int i = 0; i < repetitions; ++i) {
    const double cpu_before = CpuSeconds();
    const Timer timer;
    for (int k = 0; k < batch; ++k) body();
    seconds.push_back(timer.Seconds() / batch);
    cpu.push_back((CpuSeconds() - cpu_before) / batch);
  }
  return Summarise(std::move(seconds), std::move(cpu));
}

// What a piece of work must do at least, all threads together.
struct Work {
  double butterflies = 0;  // of NTTs
  double products = 0;     // multiply-accumulates of residues
  double bytes = 0;        // that come from memory: keys, operands, results
};

// The machine's limits with a number of threads, all together.
struct Ceilings {
  size_t threads = 1;
  double butterflies = 0;  // per second, on registers; 0 without AVX-512 IFMA
  double products = 0;     // multiply-accumulates per second, on registers
  double read_bytes = 0;   // per second, from memory
};
// Uses `threads` threads of the pool and leaves it set to them.
Ceilings MeasureCeilings(size_t threads, int repetitions);
// Seconds that the work takes at least: arithmetic or memory, whichever is longer. 0: unknown.
double FloorSeconds(const Work& work, const Ceilings& ceilings);

}  // namespace polyveil::bench
