// The performance table's targets and the best public library's numbers, as constants with their
// source.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "bench/engine_bench.h"

namespace polyveil::bench {

struct Target {
  std::string_view id;
  size_t threads;
  double target;            // seconds, or bytes for rows that are sizes
  double best_public;       // the same unit; 0: none measured
  std::string_view source;  // of best_public, and how it differs
};

std::span<const Target> Targets();
std::optional<Target> FindTarget(const Row& row);
// Harvey butterflies per second and core where the targets and the best library were measured. The
// same arithmetic at another clock takes their ratio to this machine's ceiling times as long.
inline constexpr double kAnchorButterflies = 5.6e9;
// The target at this machine's clock; sizes, and machines without that ceiling, keep it.
double TargetAtClock(const Row& row, const Target& target, const EngineReport& report);
// What the target is about: median seconds, or bytes for rows that are sizes.
double ValueOf(const Row& row);

}  // namespace polyveil::bench
