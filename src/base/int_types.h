// Short names for the word types of the ring arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polyveil {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u128 = unsigned __int128;
using i128 = __int128;

}  // namespace polyveil

// Helpers that vector files include must never become shared out-of-line symbols compiled with
// wider instructions than the machine has.
#define PV_ALWAYS_INLINE inline __attribute__((always_inline))
