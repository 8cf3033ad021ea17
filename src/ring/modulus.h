// A prime modulus q < 2^50 with the constants of every reduction that the kernels use.
#pragma once

#include "base/int_types.h"
#include "base/result.h"

namespace polyveil::ring {

inline constexpr int kMaxModulusBits = 50;  // q < 2^50: lazy ranges [0, 4q) fit 52 bits
inline constexpr int kShoupBits = 52;       // the word of AVX-512 IFMA
inline constexpr u64 kMask52 = (u64{1} << kShoupBits) - 1;

// A fixed factor w < q with floor(w * 2^52 / q): x * w mod q costs two products for any x < 2^52.
struct ShoupFactor {
  u64 value = 0;
  u64 quotient = 0;
};

// Plain data; the fields are constants of q. Methods: operands in [0, q) unless said, results in
// [0, q).
struct Modulus {
  u64 q = 0;
  int bits = 0;          // 2^(bits-1) < q < 2^bits
  u64 barrett = 0;       // floor(2^(bits+51) / q), below 2^52
  u64 inv52 = 0;         // floor(2^52 / q)
  u64 inv55 = 0;         // floor(2^55 / q)
  u64 inv64 = 0;         // floor(2^64 / q)
  ShoupFactor pow55;     // 2^55 mod q
  double inverse = 0.0;  // 1 / q, rounded to nearest

  Modulus() = default;
  // Requires q odd, 2^11 < q < 2^50 (a bug otherwise; check outside values with Validate).
  explicit Modulus(u64 q);
  // Errors: kInvalidArgument unless q is a prime in range with q = 1 mod 2n.
  static Status Validate(u64 q, size_t n);

  bool operator==(const Modulus& other) const { return q == other.q; }

  PV_ALWAYS_INLINE u64 Add(u64 a, u64 b) const {
    const u64 s = a + b;
    return s >= q ? s - q : s;
  }
  PV_ALWAYS_INLINE u64 Sub(u64 a, u64 b) const { return a >= b ? a - b : a + q - b; }
  PV_ALWAYS_INLINE u64 Negate(u64 a) const { return a == 0 ? 0 : q - a; }
  PV_ALWAYS_INLINE u64 Mul(u64 a, u64 b) const { return ReduceProduct(u128{a} * b); }
  // Any product below 2^(2 * bits).
  PV_ALWAYS_INLINE u64 ReduceProduct(u128 product) const {
    // The quotient estimate is at most one short: the truncated product costs 2^-12, barrett costs
    // 1/2.
    const u64 top = static_cast<u64>(product >> (bits - 13));
    const u64 estimate = static_cast<u64>((u128{top} * barrett) >> 64);
    const u64 r = static_cast<u64>(product) - estimate * q;
    return r >= q ? r - q : r;
  }
  // Any 64-bit value.
  PV_ALWAYS_INLINE u64 Reduce(u64 x) const {
    const u64 estimate = static_cast<u64>((u128{x} * inv64) >> 64);
    const u64 r = x - estimate * q;
    return r >= q ? r - q : r;
  }
  // The largest multiple of q that is at most 2^64: uniform words below it are uniform mod q.
  u64 UniformLimit() const { return u64{0} - (u64{0} - q) % q; }
  u64 Reduce128(u128 x) const { return static_cast<u64>(x % q); }  // slow; tables only
  // A signed integer as a residue; constant time for |x| < q.
  PV_ALWAYS_INLINE u64 FromSigned(i64 x) const {
    return static_cast<u64>(x) + (q & static_cast<u64>(x >> 63));
  }
  u64 ReduceSigned(i64 x) const;  // any x
  // The representative in (-q/2, q/2].
  PV_ALWAYS_INLINE i64 Centred(u64 a) const {
    return a > q / 2 ? static_cast<i64>(a) - static_cast<i64>(q) : static_cast<i64>(a);
  }

  u64 Pow(u64 base, u64 exponent) const;
  u64 Inverse(u64 a) const;  // a != 0; q prime
  ShoupFactor Shoup(u64 w) const { return {w, static_cast<u64>((u128{w} << kShoupBits) / q)}; }
  // x < 2^52, any; result in [0, 2q) for the Lazy form.
  PV_ALWAYS_INLINE u64 MulShoupLazy(u64 x, const ShoupFactor& w) const {
    const u64 estimate = static_cast<u64>((u128{x} * w.quotient) >> kShoupBits);
    return x * w.value - estimate * q;
  }
  PV_ALWAYS_INLINE u64 MulShoup(u64 x, const ShoupFactor& w) const {
    const u64 r = MulShoupLazy(x, w);
    return r >= q ? r - q : r;
  }
};

}  // namespace polyveil::ring
