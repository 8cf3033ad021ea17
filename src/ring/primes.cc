#include "ring/primes.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "ring/modulus.h"

namespace polyveil::ring {
namespace {

u64 MulMod(u64 a, u64 b, u64 q) { return static_cast<u64>(u128{a} * b % q); }

u64 PowMod(u64 base, u64 exponent, u64 q) {
  u64 result = 1;
  for (base %= q; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = MulMod(result, base, q);
    base = MulMod(base, base, q);
  }
  return result;
}

bool PassesMillerRabin(u64 value, u64 base) {
  const int twos = std::countr_zero(value - 1);
  u64 x = PowMod(base, (value - 1) >> twos, value);
  if (x == 1 || x == value - 1) return true;
  for (int i = 1; i < twos; ++i) {
    x = MulMod(x, x, value);
    if (x == value - 1) return true;
  }
  return false;
}

// Walks the candidates c = 1 mod 2n down or up from a start, skipping taken ones.
class PrimeWalk {
 public:
  PrimeWalk(u64 start, i64 step, u64 low, u64 high)
      : next_(start), step_(step), low_(low), high_(high) {}

  // 0 when the walk leaves [low, high].
  u64 Next(std::span<const u64> taken) {
    while (next_ >= low_ && next_ <= high_) {
      const u64 candidate = next_;
      next_ += static_cast<u64>(step_);
      if (IsPrime(candidate) && std::ranges::find(taken, candidate) == taken.end())
        return candidate;
    }
    return 0;
  }

 private:
  u64 next_;
  i64 step_;
  u64 low_, high_;
};

Status CheckRingDegree(size_t n) {
  if (std::has_single_bit(n) && n >= 2 && n <= (size_t{1} << 30)) return {};
  return MakeError(ErrorCode::kInvalidArgument, "n = {} is not a power of two in 2..2^30", n);
}

constexpr u64 kLowest = (u64{1} << 11) + 1;
constexpr u64 kHighest = (u64{1} << kMaxModulusBits) - 1;

}  // namespace

bool IsPrime(u64 value) {
  // These bases decide every value below 2^64 (Sinclair; verified list of the first twelve primes).
  constexpr u64 kBases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  if (value < 2) return false;
  for (const u64 base : kBases)
    if (value % base == 0) return value == base;
  return std::ranges::all_of(kBases, [&](u64 base) { return PassesMillerRabin(value, base); });
}

Result<std::vector<u64>> FindNttPrimes(size_t n, int bits, size_t count,
                                       std::span<const u64> taken) {
  PV_RETURN_IF_ERROR(CheckRingDegree(n));
  if (bits < 13 || bits > kMaxModulusBits) {
    return MakeError(ErrorCode::kInvalidArgument, "prime of {} bits, not 13..{}", bits,
                     kMaxModulusBits);
  }
  const u64 centre = u64{1} << bits;
  const i64 step = static_cast<i64>(2 * n);
  // Within a factor sqrt(2) of 2^bits: beyond it the prime would belong to another size.
  const u64 low = std::max(kLowest, static_cast<u64>(static_cast<double>(centre) * 0.7072));
  const u64 high = std::min(kHighest, static_cast<u64>(static_cast<double>(centre) * 1.4142));
  PrimeWalk walks[] = {{(centre - 1) / (2 * n) * (2 * n) + 1 - (centre % (2 * n) == 0 ? 0 : 2 * n),
                        -step, low, high},
                       {centre / (2 * n) * (2 * n) + 1, step, low, high}};
  std::vector<u64> primes;
  std::vector<u64> used(taken.begin(), taken.end());
  for (size_t side = 0, misses = 0; primes.size() < count && misses < 2; side ^= 1) {
    const u64 prime = walks[side].Next(used);
    misses = prime == 0 ? misses + 1 : 0;
    if (prime != 0) primes.push_back(prime);
  }
  if (primes.size() < count) {
    return MakeError(ErrorCode::kOutOfRange, "{} primes near 2^{} for n = {} < required {}",
                     primes.size(), bits, n, count);
  }
  return primes;
}

Result<u64> NearestNttPrime(size_t n, double target, std::span<const u64> taken) {
  PV_RETURN_IF_ERROR(CheckRingDegree(n));
  if (!(target >= static_cast<double>(kLowest) && target <= static_cast<double>(kHighest))) {
    return MakeError(ErrorCode::kInvalidArgument, "prime near {} is outside (2^11, 2^{})", target,
                     kMaxModulusBits);
  }
  const u64 start = static_cast<u64>(target) / (2 * n) * (2 * n) + 1;
  const i64 step = static_cast<i64>(2 * n);
  PrimeWalk down(start, -step, kLowest, kHighest), up(start + 2 * n, step, kLowest, kHighest);
  const u64 below = down.Next(taken), above = up.Next(taken);
  if (below == 0 && above == 0) {
    return MakeError(ErrorCode::kOutOfRange, "no free prime near {} for n = {}", target, n);
  }
  const auto distance = [&](u64 prime) {
    return prime == 0 ? HUGE_VAL : std::abs(static_cast<double>(prime) - target);
  };
  return distance(below) <= distance(above) ? below : above;
}

u64 PrimitiveRoot(u64 q, size_t two_n) {
  PV_CHECK(q % two_n == 1 && std::has_single_bit(two_n), "no root of order {} mod {}", two_n, q);
  // x^((q-1)/2n) has order 2n exactly when its n-th power is -1; half of all x do.
  for (u64 x = 2;; ++x) {
    const u64 root = PowMod(x, (q - 1) / two_n, q);
    if (PowMod(root, two_n / 2, q) == q - 1) return root;
  }
}

}  // namespace polyveil::ring
