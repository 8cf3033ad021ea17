#include "ckks/special_fft.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace polyveil::ckks {
namespace {

using Complex = std::complex<double>;

void BitReverse(std::span<Complex> values) {
  const size_t n = values.size();
  for (size_t i = 1, j = 0; i < n; ++i) {
    size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(values[i], values[j]);
  }
}

// std::complex products check for NaN; these do not.
inline Complex Times(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

inline Complex TimesConjugate(Complex a, Complex b) {
  return {a.real() * b.real() + a.imag() * b.imag(), a.imag() * b.real() - a.real() * b.imag()};
}

}  // namespace

SpecialFft::SpecialFft(size_t max_slots) : twiddles_(std::max<size_t>(max_slots, 1)) {
  PV_CHECK(std::has_single_bit(max_slots), "{} slots", max_slots);
  for (size_t len = 2; len <= max_slots; len *= 2) {
    size_t power = 1;  // 5^j mod 4 len
    for (size_t j = 0; j < len / 2; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(power) / (4.0 * len);
      twiddles_[len / 2 + j] = {std::cos(angle), std::sin(angle)};
      power = power * 5 % (4 * len);
    }
  }
}

void SpecialFft::Forward(std::span<Complex> values) const {
  const size_t n = values.size();
  PV_CHECK(std::has_single_bit(n) && n <= twiddles_.size(), "{} slots of {}", n, twiddles_.size());
  BitReverse(values);
  for (size_t len = 2; len <= n; len *= 2) {
    const size_t half = len / 2;
    const Complex* w = twiddles_.data() + half;
    for (Complex* block = values.data(); block < values.data() + n; block += len)
      for (size_t j = 0; j < half; ++j) {
        const Complex u = block[j], v = Times(block[j + half], w[j]);
        block[j] = u + v;
        block[j + half] = u - v;
      }
  }
}

void SpecialFft::Inverse(std::span<Complex> values) const {
  const size_t n = values.size();
  PV_CHECK(std::has_single_bit(n) && n <= twiddles_.size(), "{} slots of {}", n, twiddles_.size());
  for (size_t len = n; len >= 2; len /= 2) {
    const size_t half = len / 2;
    const Complex* w = twiddles_.data() + half;
    for (Complex* block = values.data(); block < values.data() + n; block += len)
      for (size_t j = 0; j < half; ++j) {
        const Complex u = block[j], v = block[j + half];
        block[j] = u + v;
        block[j + half] = TimesConjugate(u - v, w[j]);
      }
  }
  BitReverse(values);
  const double scale = 1.0 / static_cast<double>(n);
  for (Complex& value : values) value = {value.real() * scale, value.imag() * scale};
}

}  // namespace polyveil::ckks
