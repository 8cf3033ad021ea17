// Predicted errors of the scheme's operations, from parameters, levels, scales and magnitudes alone.
// Every formula is checked against measurement to a factor of 4 (noise_estimator_test.cc).
//
// Errors are root mean squares of the modulus of one slot's error, in units of the slot. A slot is a
// sum of N coefficients with unit roots, so an error of standard deviation sigma per coefficient is
// sqrt(N) sigma / scale in the slots. Sources: Cheon, Kim, Kim, Song 2017 (ePrint 2016/421); Kim et
// al., ePrint 2020/1118 (rounding under a dense secret); Bossuat et al. 2022/024 (ModRaise).
#pragma once

#include "ckks/parameters.h"

namespace polyveil::ckks {

// A ciphertext as the estimator sees it.
struct NoisyValue {
  int level = 0;
  double scale = 1;
  double rms = 0;    // of the slots' modulus
  double error = 0;  // of the slots' error
};

// How the largest of many slots relates to the root mean square. Roundings meet the secret: slot j
// of r s is a product of two Gaussians, |x| > t rms with probability about exp(-2 t).
enum class NoiseTail { kGaussian, kProduct };

class NoiseEstimator {
 public:
  // The parameters must outlive the estimator. key_level: of all key-switching keys; -1: each level
  // has its own. (A key of a higher level may have a longer P, and digits that differ.)
  explicit NoiseEstimator(const Parameters& params, int key_level = -1)
      : params_(&params), key_level_(key_level) {}

  const Parameters& params() const { return *params_; }

  // Single sources of error.
  // Rounding of 2^(log_period + 1) coefficients to integers; log_period -1: all slots.
  double Encode(double scale, int log_period = -1) const;
  double Encrypt(double scale) const;
  // Rounding of both parts by a division that ends at `scale` (Rescale, ModDown): (1, s) times
  // uniforms.
  double Rounding(double scale) const;
  // Key switching before ModDown's rounding, of `count` products in one sum: digit i is uniform in
  // (-D_i/2, D_i/2) and meets a fresh error, all over P.
  double KeyProducts(int level, double scale, int count = 1) const;
  // With ModDown's rounding: rotation, conjugation, relinearisation.
  double KeySwitch(int level, double scale) const;
  // ModRaise, per *coefficient* and in units of 1 / scale: both switches of the encapsulation.
  // Coefficients, because the bootstrap's message stands in them there.
  double ModRaiseCoefficient(double scale) const;

  // Whole operations. Operands of a product are taken as independent; Square is not.
  NoisyValue Encrypted(int level, double scale, double rms) const;
  NoisyValue Add(const NoisyValue& a, const NoisyValue& b) const;
  NoisyValue MulPlain(const NoisyValue& a, double plain_rms, double plain_scale) const;
  NoisyValue MulConstant(const NoisyValue& a, double value, double constant_scale) const;
  NoisyValue Mul(const NoisyValue& a, const NoisyValue& b) const;  // relinearised
  NoisyValue MulRescale(const NoisyValue& a, const NoisyValue& b) const;
  NoisyValue SquareRescale(const NoisyValue& a) const;
  NoisyValue Rescale(const NoisyValue& a) const;
  NoisyValue AdjustTo(const NoisyValue& a, int level, double scale) const;
  NoisyValue Rotate(const NoisyValue& a) const;  // also conjugation and hoisted rotation
  // sum of `count` rotations before one ModDown (double hoisting).
  NoisyValue SumOfHoistedRotations(const NoisyValue& a, int count) const;

  // The largest of `slots` slots' errors, as expected from their root mean square.
  static double Worst(double error, double slots, NoiseTail tail = NoiseTail::kProduct);

 private:
  double Slot(double coefficient, double scale) const;  // coefficient's deviation -> slot's
  double Modulus(int level) const;                      // what a rescale divides by
  NoisyValue Product(const NoisyValue& a, const NoisyValue& b, double error) const;

  const Parameters* params_;
  int key_level_;
};

}  // namespace polyveil::ckks
