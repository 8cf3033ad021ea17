// Homomorphic operations with public keys only. Threads: each operation spreads over limbs and digits on the global
// pool; an Evaluator is immutable and may be shared.
//
// Levels and scales: level l has limbs(l) limbs. Scales are exact doubles that multiply on products and divide by the
// dropped prime on Rescale. Additions require equal levels and scales that agree to 2^-20 relative (kMismatch names
// both values); AdjustTo brings a value to any lower level and any scale at no depth beyond the drop.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/encoder.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// ModUp of c1 once for many rotations: digits(level) x (limbs(level) + p_count) x N, NTT form.
struct HoistedDigits {
  std::vector<ring::RnsPoly> digits;
  int level = 0;
};

// A ciphertext over QP before ModDown (values scaled by P): sums of hoisted products live here.
struct ExtendedCiphertext {
  ring::RnsPoly c0, c1;
  int level = 0;
  double scale = 1;
};

class Evaluator {
 public:
  // `keys` may be null for operations that need none. Both outlive the evaluator.
  Evaluator(ParametersPtr params, const EvaluationKeys* keys);

  const Parameters& params() const { return *params_; }
  const EvaluationKeys* keys() const { return keys_; }

  // Level/scale: unchanged; operands must agree.
  Result<Ciphertext> Add(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Sub(const Ciphertext& a, const Ciphertext& b) const;
  Status AddInplace(Ciphertext& a, const Ciphertext& b) const;
  Status SubInplace(Ciphertext& a, const Ciphertext& b) const;
  Ciphertext Negate(const Ciphertext& a) const;
  Result<Ciphertext> AddPlain(const Ciphertext& a, const Plaintext& b) const;  // equal level and scale
  Ciphertext AddConstant(const Ciphertext& a, Complex value) const;            // same value in every slot; exact, no encoding
  // Value times an integer, exactly: level and scale unchanged, magnitude grows.
  Ciphertext MulInteger(const Ciphertext& a, int64_t value) const;
  // Times i (imaginary unit) in every slot: multiplication by X^(N/2), free of level and noise.
  Ciphertext MulByI(const Ciphertext& a) const;

  // Products before rescaling: scale = a.scale * b.scale, level unchanged.
  Result<Ciphertext> MulPlain(const Ciphertext& a, const Plaintext& b) const;
  Ciphertext MulConstant(const Ciphertext& a, double value, double constant_scale) const;  // round(value * constant_scale)
  Result<Ciphertext> Mul(const Ciphertext& a, const Ciphertext& b) const;      // relinearised; levels are matched by dropping limbs
  Result<Ciphertext> Square(const Ciphertext& a) const;                         // relinearised
  Result<Ciphertext> MulNoRelin(const Ciphertext& a, const Ciphertext& b) const;  // degree 2, for lazy sums of products
  Result<Ciphertext> Relinearize(const Ciphertext& a) const;
  Status RescaleInplace(Ciphertext& a) const;  // level - 1, scale / q_level; kOutOfRange at level 0

  // Drops limbs without touching the value: scale unchanged. Requires level <= a.level.
  Status DropLevelInplace(Ciphertext& a, int level) const;
  // To exactly (level, scale) with level < a.level: multiplies by round(...) at level + 1 and rescales.
  // At level == a.level requires equal scales.
  Result<Ciphertext> AdjustTo(const Ciphertext& a, int level, double scale) const;

  Result<Ciphertext> Rotate(const Ciphertext& a, int rotation) const;
  Result<Ciphertext> Conjugate(const Ciphertext& a) const;

  // Hoisting (Halevi-Shoup 2018; double hoisting: Bossuat et al., ePrint 2020/1203).
  Result<HoistedDigits> Decompose(const Ciphertext& a) const;
  // Rotation from digits, before ModDown: P * rotate(a, r) over QP. `a` supplies c0.
  Result<ExtendedCiphertext> RotateHoistedLazy(const Ciphertext& a, const HoistedDigits& digits, int rotation) const;
  Result<Ciphertext> RotateHoisted(const Ciphertext& a, const HoistedDigits& digits, int rotation) const;
  ExtendedCiphertext Extend(const Ciphertext& a) const;  // P * a over QP
  Status MulPlainAccumulate(ExtendedCiphertext& sum, const ExtendedCiphertext& a, const Plaintext& b) const;  // b.with_p
  Ciphertext ModDown(const ExtendedCiphertext& a) const;

  // Key switching of one polynomial c (NTT form, level limbs): (k0, k1) with k0 + k1 s ~ c s'.
  Ciphertext KeySwitch(const ring::RnsPoly& c, int level, const KeySwitchKey& key) const;

  // ModRaise with sparse-secret encapsulation: ct at level 0 -> level max_level(), same scale, plaintext m + q0 I with
  // |I| <= (h + 1) / 2. Needs to_sparse and to_dense.
  Result<Ciphertext> ModRaise(const Ciphertext& a) const;

 private:
  ParametersPtr params_;
  const EvaluationKeys* keys_;
};

}  // namespace polyveil::ckks
