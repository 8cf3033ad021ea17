#include "ring/modulus.h"

#include <bit>

#include "base/check.h"
#include "ring/primes.h"

namespace polyveil::ring {

Modulus::Modulus(u64 value) {
  PV_CHECK(value > (u64{1} << 11) && value < (u64{1} << kMaxModulusBits) && value % 2 == 1,
           "modulus {} is not odd in (2^11, 2^{})", value, kMaxModulusBits);
  q = value;
  bits = std::bit_width(value);
  barrett = static_cast<u64>((u128{1} << (bits + 51)) / q);
  inv52 = (u64{1} << 52) / q;
  inv55 = (u64{1} << 55) / q;
  inv64 = static_cast<u64>((u128{1} << 64) / q);
  pow55 = Shoup((u64{1} << 55) % q);
  inverse = 1.0 / static_cast<double>(q);
}

Status Modulus::Validate(u64 q, size_t n) {
  if (q <= (u64{1} << 11) || q >= (u64{1} << kMaxModulusBits)) {
    return MakeError(ErrorCode::kInvalidArgument, "modulus {} is outside (2^11, 2^{})", q,
                     kMaxModulusBits);
  }
  if (q % (2 * n) != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "modulus {} mod {} = {}, not 1", q, 2 * n,
                     q % (2 * n));
  }
  if (!IsPrime(q)) return MakeError(ErrorCode::kInvalidArgument, "modulus {} is not prime", q);
  return {};
}

u64 Modulus::ReduceSigned(i64 x) const {
  const u64 magnitude = x < 0 ? u64{0} - static_cast<u64>(x) : static_cast<u64>(x);
  const u64 r = Reduce(magnitude);
  return x < 0 ? Negate(r) : r;
}

u64 Modulus::Pow(u64 base, u64 exponent) const {
  u64 result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = Mul(result, base);
    base = Mul(base, base);
  }
  return result;
}

u64 Modulus::Inverse(u64 a) const {
  PV_CHECK(a % q != 0, "inverse of {} mod {}", a, q);
  return Pow(a % q, q - 2);
}

}  // namespace polyveil::ring
