// Canonical embedding: complex slots <-> integer polynomials. Slot j is the evaluation at zeta^(5^j), so that a
// rotation by r is X -> X^(5^r). A vector of n' < slots values (a power of two) encodes its periodic repetition,
// a polynomial in X^(slots/n').
#pragma once

#include <complex>
#include <span>
#include <vector>

#include "ckks/ciphertext.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

using Complex = std::complex<double>;

class Encoder {
 public:
  explicit Encoder(ParametersPtr params);

  // Errors: kInvalidArgument (size not a power of two or above slots), kOutOfRange (scale * |value| exceeds Q or 2^62).
  Result<Plaintext> Encode(std::span<const Complex> values, int level, double scale, bool with_p = false) const;
  Result<Plaintext> Encode(std::span<const double> values, int level, double scale, bool with_p = false) const;
  // Coefficients as signed integers, for tests and debugging: `count` slots (a power of two).
  std::vector<Complex> Decode(const Plaintext& plaintext, int count) const;

  // The transforms alone, on n' = values.size() slots, in place, double precision.
  void SlotsToCoefficients(std::span<Complex> values) const;  // inverse special FFT
  void CoefficientsToSlots(std::span<Complex> values) const;  // special FFT

 private:
  ParametersPtr params_;
  std::vector<Complex> roots_;      // zeta^k, k < 2N... (implementation's choice)
  std::vector<int> rotation_group_;  // 5^j mod 2N
};

}  // namespace polyveil::ckks
