// Facts about the process and the machine.
#pragma once

#include <chrono>
#include <string>

#include "base/int_types.h"

namespace polyveil {

size_t PeakRssBytes();     // largest resident set so far; 0 where unknown
size_t CurrentRssBytes();  // resident set now; 0 where unknown
std::string CpuName();     // "AMD EPYC ..."; "unknown" where unknown
// CPUs that this process may use: by its affinity, and by the time that its control groups grant.
size_t CpuCount();
// Memory that this process may use: the machine's, or less where its control groups say so; 0 where
// unknown.
u64 MemoryBytes();
// What of that is free now, pages of files that need not stay among it; 0 where unknown.
u64 AvailableMemoryBytes();

// Wall clock since construction.
class Timer {
 public:
  Timer() : start_(std::chrono::steady_clock::now()) {}
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  void Reset() { start_ = std::chrono::steady_clock::now(); }
  // Seconds, then Reset.
  double Lap() {
    const double seconds = Seconds();
    Reset();
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point start_;
};

}  // namespace polyveil
