// Plaintexts of linear transforms in little memory. A vector of period m is a polynomial in
// X^(N/2m), whose NTT has 2m distinct values per limb, each repeated N/2m times in a row: those are
// kept. A vector without a shorter period is kept as integer coefficients and transformed on use.
// Short words keep the 30 leading bits that the largest coefficient has: for weights, which are
// many and whose rounding of 2^-31 of the largest is far below that of their products.
#pragma once

#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/result.h"
#include "ckks/encoder.h"

namespace polyveil::circuits {

enum class CoefficientWords { kWhole, kShort };

// Values over QP at one level, in the order of ckks::Plaintext (Q limbs, then P).
class CompactPlaintext {
 public:
  // Errors: those of Encoder::Encode.
  static Result<CompactPlaintext> Create(const ckks::Encoder& encoder,
                                         std::span<const ckks::Complex> values, int level,
                                         double scale,
                                         CoefficientWords words = CoefficientWords::kWhole);

  // Coefficient form: a limb must be expanded as a whole.
  bool in_coefficients() const { return log_repeat_ == 0; }
  // Distinct words repeat 2^log_repeat() times in a row; those of a limb from word `begin` on.
  int log_repeat() const { return log_repeat_; }
  // Whether one word serves all lanes of a vector (Kernels::inner_product2_repeated).
  bool repeats_in_vectors() const { return log_repeat_ >= 3; }
  const u64* Distinct(const ckks::Parameters& params, size_t limb, size_t begin) const {
    return values_.data() + ((limb * static_cast<size_t>(params.n()) + begin) >> log_repeat_);
  }
  // Words [begin, begin + out.size()) of a limb; begin and size multiples of 64.
  void ExpandBlock(const ckks::Parameters& params, int level, size_t limb, size_t begin,
                   std::span<u64> out) const;
  // All limbs of Q, without those of P.
  ckks::Plaintext Expand(const ckks::Parameters& params, int level, double scale) const;
  size_t bytes() const;

 private:
  void KeepCoefficients(const std::vector<i64>& whole, u64 q, CoefficientWords words);

  int log_repeat_ = 0;
  Buffer values_;           // [limb][N >> log_repeat]; in coefficient form N residues modulo q_0
  std::vector<i32> short_;  // in place of those: coefficients / 2^shift_
  int shift_ = 0;
};

}  // namespace polyveil::circuits
