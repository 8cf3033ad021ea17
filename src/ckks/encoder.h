// Canonical embedding: complex slots <-> integer polynomials. Slot j is the evaluation at
// zeta^(5^j), so that a rotation by r is X -> X^(5^r). A vector of n' < slots values (a power of
// two) encodes its periodic repetition, a polynomial in X^(slots/n').
#pragma once

#include <complex>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

using Complex = std::complex<double>;

// Thread-safe; copies share the tables.
class Encoder {
 public:
  explicit Encoder(ParametersPtr params);

  const ParametersPtr& params() const { return params_; }

  // Shape: out limbs(level) x N, with the P limbs behind when with_p. Rounding: each coefficient to
  // the nearest integer. Cost: one FFT of n' slots, one NTT of 2n' words per limb.
  // Errors: kInvalidArgument (size not a power of two or above slots, level, scale), kOutOfRange (a
  // coefficient of scale * value exceeds Q/2 or 2^62; both values named).
  Result<Plaintext> Encode(std::span<const Complex> values, int level, double scale,
                           bool with_p = false) const;
  Result<Plaintext> Encode(std::span<const double> values, int level, double scale,
                           bool with_p = false) const;
  // What a limb of Encode(with_p) repeats: 2 n' values, each of which stands for N / (2 n') equal
  // ones. Errors: those of Encode, kInvalidArgument for more than an eighth of the slots.
  Result<ring::RnsPoly> EncodeDistinct(std::span<const Complex> values, int level,
                                       double scale) const;
  // The 2 n' coefficients alone, rounded, in the polynomial's order. Errors: those of Encode.
  Result<std::vector<i64>> Coefficients(std::span<const Complex> values, int level,
                                        double scale) const;
  // The first `count` slots (a power of two, at most slots), in double precision. Coefficients are
  // read mod at most the first four primes: |coefficient| must be below half their product.
  std::vector<Complex> Decode(const Plaintext& plaintext, int count) const;

  // The transforms alone, on n' = values.size() slots (a power of two), in place, double precision.
  void SlotsToCoefficients(std::span<Complex> values) const;  // inverse special FFT
  void CoefficientsToSlots(std::span<Complex> values) const;  // special FFT

 private:
  struct Tables;
  // Of a polynomial in X^(N / m), m coefficients: the m values that a limb repeats.
  ring::RnsPoly DistinctValues(const std::vector<i64>& coefficients, i64 largest, int level,
                               size_t limbs) const;
  ParametersPtr params_;
  std::shared_ptr<const Tables> tables_;
};

}  // namespace polyveil::ckks
