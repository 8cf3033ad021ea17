// The canonical embedding's transforms in double precision (internal to Encoder).
#pragma once

#include <complex>
#include <span>
#include <vector>

namespace polyveil::ckks {

// Special FFT of Cheon et al. 2017 (ePrint 2016/421) in the order of HEAAN: slot j is the
// evaluation at zeta^(5^j). One table serves every power-of-two size up to max_slots.
class SpecialFft {
 public:
  explicit SpecialFft(size_t max_slots);

  // In place; values.size() a power of two, at most max_slots. Cost: n'/2 log2(n') butterflies.
  void Forward(std::span<std::complex<double>> values) const;  // coefficients -> slots
  void Inverse(std::span<std::complex<double>> values) const;  // slots -> coefficients

 private:
  // twiddles_[len/2 + j] = exp(2 pi i (5^j mod 4 len) / (4 len)): the factor of pair j in blocks of
  // len.
  std::vector<std::complex<double>> twiddles_;
};

}  // namespace polyveil::ckks
