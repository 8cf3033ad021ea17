#include "ring/automorphism.h"

#include <bit>

#include "base/check.h"

namespace polyveil::ring {
namespace {

constexpr u32 kNegative = u32{1} << 31;

size_t ReverseBits(size_t value, int width) {
  size_t result = 0;
  for (int i = 0; i < width; ++i) result |= ((value >> i) & 1) << (width - 1 - i);
  return result;
}

}  // namespace

u64 GaloisElement(i64 step, size_t n) {
  const u64 order = n / 2, mask = 2 * n - 1;
  u64 exponent = static_cast<u64>(step) & (order - 1);
  u64 result = 1;
  for (u64 power = 5; exponent > 0; exponent >>= 1, power = power * power & mask)
    if (exponent & 1) result = result * power & mask;
  return result;
}

u64 InverseGaloisElement(u64 g, size_t n) {
  PV_CHECK(g % 2 == 1, "Galois element {} is even", g);
  u64 inverse = g;  // right mod 8; every Newton step doubles the right bits
  for (int i = 0; i < 5; ++i) inverse *= 2 - g * inverse;
  return inverse & (2 * n - 1);
}

std::vector<u32> NttAutomorphism(u64 g, size_t n) {
  PV_CHECK(g % 2 == 1 && std::has_single_bit(n), "Galois element {}, n {}", g, n);
  const int log_n = std::countr_zero(n);
  std::vector<u32> table(n);
  for (size_t j = 0; j < n; ++j) {
    // Word j is the value at psi^e, e = 2 rev(j) + 1; a(X^g) there is a at psi^(e g).
    const u64 exponent = (2 * ReverseBits(j, log_n) + 1) * g & (2 * n - 1);
    table[j] = static_cast<u32>(ReverseBits(exponent >> 1, log_n));
  }
  return table;
}

std::vector<u32> CoeffAutomorphism(u64 g, size_t n) {
  PV_CHECK(g % 2 == 1 && std::has_single_bit(n), "Galois element {}, n {}", g, n);
  std::vector<u32> table(n);
  for (size_t i = 0; i < n; ++i) {
    const u64 target = i * g & (2 * n - 1);  // X^i -> X^(i g), X^n = -1
    table[target & (n - 1)] = static_cast<u32>(i) | (target >= n ? kNegative : 0);
  }
  return table;
}

void ApplyCoeffAutomorphism(std::span<u64> out, std::span<const u64> in, std::span<const u32> table,
                            const Modulus& q) {
  PV_CHECK(out.size() == in.size() && in.size() == table.size() && out.data() != in.data(),
           "automorphism of {} words into {} by a table of {}", in.size(), out.size(),
           table.size());
  for (size_t j = 0; j < out.size(); ++j) {
    const u64 value = in[table[j] & ~kNegative];
    out[j] = table[j] & kNegative ? q.Negate(value) : value;
  }
}

}  // namespace polyveil::ring
