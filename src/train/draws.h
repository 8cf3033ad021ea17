// Reproducible draws without the standard library's distributions, which differ by vendor.
#pragma once

#include <cstdint>
#include <random>

namespace polyveil::train {

// Uniform in [0, bound).
inline std::uint64_t Below(std::mt19937_64& random, std::uint64_t bound) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(random()) * bound >> 64);
}

// The stream of item `index` under a seed.
inline std::mt19937_64 Generator(std::uint64_t seed, std::int64_t index) {
  std::seed_seq mixed{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                      static_cast<std::uint32_t>(index)};
  return std::mt19937_64(mixed);
}

}  // namespace polyveil::train
