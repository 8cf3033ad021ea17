// Homomorphic operations with public keys only. Threads: each operation spreads over limbs and
// digits on the global pool; an Evaluator is immutable and may be shared.
//
// Levels and scales: level l has limbs(l) limbs. Scales are exact doubles that multiply on products
// and divide by the dropped prime on Rescale. Additions require equal levels and scales that agree
// to 2^-20 relative (kMismatch names both values); AdjustTo brings a value to any lower level and
// any scale at no depth beyond the drop.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/encoder.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

class KeySwitcher;
struct AutomorphismKey;

// ModUp of c1 once for many rotations. digits[i]: NTT form, the extended limbs (Q then P) without
// those of digit i itself, which are c1's own and are read from the ciphertext.
struct HoistedDigits {
  std::vector<ring::RnsPoly> digits;
  int level = 0;
  int special = 0;  // special primes of the keys that may multiply them
};

// A ciphertext over QP before ModDown (values scaled by P): sums of hoisted products live here.
// Shape: extended_limbs(level, special) x N each, NTT form, `special` being that of the keys in
// use.
struct ExtendedCiphertext {
  ring::RnsPoly c0, c1;
  int level = 0;
  double scale = 1;
};

inline constexpr double kScaleTolerance = 0x1p-20;
// Whether two scales agree to kScaleTolerance relative.
bool SameScale(double a, double b);

class Evaluator {
 public:
  // `keys` may be null for operations that need none. Both outlive the evaluator. Copies share the
  // precomputed tables.
  Evaluator(ParametersPtr params, const EvaluationKeys* keys);

  const Parameters& params() const { return *params_; }
  const EvaluationKeys* keys() const { return keys_; }
  // The index table of a rotation, kept once it was made.
  std::shared_ptr<const std::vector<u32>> Permutation(int rotation) const;
  size_t permutation_bytes() const;  // tables of automorphisms built so far

  // Level/scale: unchanged; operands must agree (degrees may differ). Errors: kMismatch.
  Result<Ciphertext> Add(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Sub(const Ciphertext& a, const Ciphertext& b) const;
  Status AddInplace(Ciphertext& a, const Ciphertext& b) const;
  Status SubInplace(Ciphertext& a, const Ciphertext& b) const;
  Ciphertext Negate(const Ciphertext& a) const;
  // Equal level (a longer plaintext is read up to a's level) and scale.
  Result<Ciphertext> AddPlain(const Ciphertext& a, const Plaintext& b) const;
  Result<Ciphertext> SubPlain(const Ciphertext& a, const Plaintext& b) const;
  // Same value in every slot; exact up to the rounding of value * scale to an integer, no encoding.
  Ciphertext AddConstant(const Ciphertext& a, Complex value) const;
  void AddConstantInplace(Ciphertext& a, Complex value) const;
  // Value times an integer, exactly: level and scale unchanged, magnitude grows.
  Ciphertext MulInteger(const Ciphertext& a, i64 value) const;
  // Times i (imaginary unit) in every slot: multiplication by X^(N/2), free of level and noise.
  Ciphertext MulByI(const Ciphertext& a) const;

  // Products before rescaling: scale = a.scale * b.scale, level unchanged (the lower of the two,
  // limbs above it are ignored). Errors: kMismatch (plaintext below the ciphertext's level).
  Result<Ciphertext> MulPlain(const Ciphertext& a, const Plaintext& b) const;
  // sum_i a[i] * b[i], accumulated unreduced: one pass over the data. Terms of degree 1, equal
  // levels and product scales (kMismatch).
  Result<Ciphertext> MulPlainSum(std::span<const Ciphertext* const> a,
                                 std::span<const Plaintext* const> b) const;
  // Times round(value * constant_scale); scale = a.scale * constant_scale.
  Ciphertext MulConstant(const Ciphertext& a, double value, double constant_scale) const;
  // sum += a * round(value * k), k = sum.scale / a.scale: level and degree of a >= and <= those of
  // sum. Errors: kMismatch.
  Status MulConstantAccumulate(Ciphertext& sum, const Ciphertext& a, double value) const;
  Result<Ciphertext> Mul(const Ciphertext& a, const Ciphertext& b) const;  // relinearised
  Result<Ciphertext> Square(const Ciphertext& a) const;                    // relinearised
  // Degree 2, for lazy sums of products.
  Result<Ciphertext> MulNoRelin(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> SquareNoRelin(const Ciphertext& a) const;
  // sum += a b without relinearisation; sum.scale must agree with a.scale * b.scale, its level be
  // the lower one or less. Errors: kMismatch.
  Status MulAccumulateNoRelin(Ciphertext& sum, const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Relinearize(const Ciphertext& a) const;  // degree 1: a copy
  // Level - 1, scale / q_level, rounded to nearest. Noise: + (1/2 + |s|_1 / 2) at most per
  // coefficient. Errors: kOutOfRange at level 0.
  Status RescaleInplace(Ciphertext& a) const;
  // Mul, Square, Relinearize followed by Rescale in one ModDown by P q_level: fewer transforms and
  // one rounding. Errors: as theirs, kOutOfRange at level 0.
  Result<Ciphertext> MulRescale(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> SquareRescale(const Ciphertext& a) const;
  Result<Ciphertext> RelinearizeRescale(const Ciphertext& a) const;
  // RelinearizeRescale of several products of one level, degree 2: the key is read once for all.
  // Results bit-equal to the single operation's. Memory: digits and sums of all at once. Errors: as
  // there, kMismatch (degrees, levels).
  Result<std::vector<Ciphertext>> RelinearizeRescaleMany(
      std::span<const Ciphertext* const> a) const;

  // Drops limbs without touching the value: scale unchanged. Errors: kMismatch above a.level.
  Status DropLevelInplace(Ciphertext& a, int level) const;
  // To exactly (level, scale) with level < a.level: multiplies by round(...) at level + 1 and
  // rescales. At level == a.level requires equal scales. Errors: kMismatch, kOutOfRange (the factor
  // is below 2^20, so that rounding it would cost precision).
  Result<Ciphertext> AdjustTo(const Ciphertext& a, int level, double scale) const;

  // Slots to the left by `rotation`, taken mod slots. Errors: kMissingKey.
  Result<Ciphertext> Rotate(const Ciphertext& a, int rotation) const;
  // The same of several ciphertexts of one level: the key is read once for all. Results bit-equal
  // to the single operation's. Memory: digits and sums of all at once. Errors: kMissingKey,
  // kMismatch (levels).
  Result<std::vector<Ciphertext>> RotateMany(std::span<const Ciphertext* const> a,
                                             int rotation) const;
  Result<Ciphertext> Conjugate(const Ciphertext& a) const;

  // Hoisting (Halevi-Shoup 2018; double hoisting: Bossuat et al., ePrint 2020/1203).
  // All rotations of the digits use keys with the special primes of `key_level`; by default those
  // with which most rotations have a key. Errors: kMismatch (key_level below a's level).
  Result<HoistedDigits> Decompose(const Ciphertext& a, int key_level = -1) const;
  // Rotation from digits, before ModDown: P * rotate(a, r) over QP. `a` is the ciphertext that was
  // decomposed. Rotation 0 is Extend. Errors: kMissingKey (none with the digits' special primes).
  Result<ExtendedCiphertext> RotateHoistedLazy(const Ciphertext& a, const HoistedDigits& digits,
                                               int rotation) const;
  Result<Ciphertext> RotateHoisted(const Ciphertext& a, const HoistedDigits& digits,
                                   int rotation) const;
  // P * a over QP with the special primes of `key_level` (by default a's level).
  ExtendedCiphertext Extend(const Ciphertext& a, int key_level = -1) const;
  // sum += a * b, b.with_p, at the same level. Errors: kMismatch.
  Status MulPlainAccumulate(ExtendedCiphertext& sum, const ExtendedCiphertext& a,
                            const Plaintext& b) const;
  // sum_i a[i] * b[i] in one pass (1 to 64 terms): what a giant step needs. Errors: kMismatch.
  Result<ExtendedCiphertext> MulPlainSum(std::span<const ExtendedCiphertext* const> a,
                                         std::span<const Plaintext* const> b) const;
  Status AddInplace(ExtendedCiphertext& a, const ExtendedCiphertext& b) const;
  // sum += rotate(a, rotation), all over QP: ModDown of a.c1 alone, no ModDown of the result (the
  // giant step of double hoisting). Errors: kMissingKey, kMismatch.
  Status RotateAccumulate(ExtendedCiphertext& sum, const ExtendedCiphertext& a, int rotation) const;
  // a + sum over r of rotate(a, r), and a + conj(a), all over QP: ModDown of a.c1 and one ModUp for
  // all rotations. Errors: kMissingKey; kInvalidArgument (no rotation, or one that is 0 mod slots).
  Result<ExtendedCiphertext> AddRotations(ExtendedCiphertext a,
                                          std::span<const int> rotations) const;
  Result<ExtendedCiphertext> AddConjugate(ExtendedCiphertext a) const;
  Ciphertext ModDown(const ExtendedCiphertext& a) const;
  // ModDown and Rescale in one. Errors: kOutOfRange at level 0.
  Result<Ciphertext> ModDownRescale(const ExtendedCiphertext& a) const;

  // Key switching of one polynomial c (NTT form, level limbs): (k0, k1) with k0 + k1 s ~ c s'.
  // Requires key.kind == kGadget and key.level >= level. scale of the result: 1.
  Ciphertext KeySwitch(const ring::RnsPoly& c, int level, const KeySwitchKey& key) const;

  // ModRaise with sparse-secret encapsulation (ePrint 2022/024): ct at level 0 -> level
  // max_level(), same scale, plaintext m + q0 I with |I| <= (h + 1) / 2. Errors: kMissingKey,
  // kMismatch (level not 0).
  Result<Ciphertext> ModRaise(const Ciphertext& a) const;

 private:
  Status RequireKeys(const char* operation) const;
  static Status CheckDegreeOne(const char* operation, const Ciphertext& a);
  std::vector<Ciphertext> RotateWithKey(std::span<const Ciphertext* const> a, u64 galois_element,
                                        const KeySwitchKey& key) const;
  Result<AutomorphismKey> FindRotationKey(const ExtendedCiphertext& a, int rotation) const;
  void AccumulateAutomorphisms(ExtendedCiphertext& sum, const ring::RnsPoly& c0,
                               const ring::RnsPoly& c1,
                               std::span<const AutomorphismKey> keys) const;
  Ciphertext Product(const Ciphertext& a, const Ciphertext& b, int level) const;
  ExtendedCiphertext ExtendBy(const Ciphertext& a, int special) const;
  Result<std::vector<Ciphertext>> RelinearizeWith(std::span<const Ciphertext* const> a,
                                                  bool rescale) const;
  std::vector<Ciphertext> RelinearizeWithKey(std::span<const Ciphertext* const> a,
                                             const KeySwitchKey& key, bool rescale) const;
  Result<Ciphertext> RelinearizeOne(const Ciphertext& a, bool rescale) const;

  ParametersPtr params_;
  const EvaluationKeys* keys_;
  std::shared_ptr<const KeySwitcher> switcher_;
};

}  // namespace polyveil::ckks
