// Linear maps on slots given by their diagonals: y_j = sum_r diag_r[j] x_(j+r), baby-step
// giant-step with double hoisting (ePrint 2020/1203).
#pragma once

#include "base/result.h"
#include "circuits/bsgs.h"
#include "circuits/diagonal_matrix.h"
#include "circuits/row_products.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/key_request.h"

namespace polyveil::circuits {

class LinearTransform {
 public:
  // Encodes the diagonals (pre-rotated for their giant step) at `level` so that an input of scale
  // `input_scale` gives `output_scale` after the rescale. baby_steps = 0: the cost model chooses
  // the split. A diagonal may have fewer entries than the period, a power of two: it repeats them.
  // Errors: kInvalidArgument (no diagonals, a wrong size, level 0), those of Encode.
  static Result<LinearTransform> Create(const ckks::Encoder& encoder, const DiagonalMatrix& matrix,
                                        int level, double input_scale, double output_scale,
                                        int baby_steps = 0,
                                        CoefficientWords words = CoefficientWords::kWhole);
  // Rotations that Apply needs, at its level.
  void AddKeys(ckks::KeyRequest& request, int slots) const;
  // The same before any encoding, from the matrix' shape alone.
  static void AddKeys(ckks::KeyRequest& request, const ckks::Parameters& params,
                      const DiagonalMatrix& matrix, int level, int baby_steps = 0);

  // Shape: x at `level` or above (limbs are dropped), scale within 2^-20 of input_scale; x has the
  // matrix' period. Level/scale: level - 1, output_scale exactly. Cost: one ModUp, a key product
  // per baby step, ModDown and ModUp of one polynomial per giant step, one ModDown. Errors:
  // kMismatch, kMissingKey.
  Result<ckks::Ciphertext> Apply(const ckks::Evaluator& evaluator, const ckks::Ciphertext& x) const;
  // The same over QP, before ModDown and rescale: at level(), scale output_scale() times the
  // level's modulus. For automorphisms that follow, whose noise the rescale then divides.
  Result<ckks::ExtendedCiphertext> Sum(const ckks::Evaluator& evaluator,
                                       const ckks::Ciphertext& x) const;
  // What Apply does after Sum.
  Result<ckks::Ciphertext> Finish(const ckks::Evaluator& evaluator,
                                  const ckks::ExtendedCiphertext& sum) const;

  int level() const { return level_; }
  double output_scale() const { return output_scale_; }
  size_t plaintext_bytes() const;

 private:
  Status EncodeRows(const ckks::Encoder& encoder, const DiagonalMatrix& matrix,
                    const BsgsSplit& split, CoefficientWords words);
  ckks::ExtendedCiphertext Zero(const ckks::Parameters& params) const;

  int level_ = 0;
  double input_scale_ = 1, output_scale_ = 1, plain_scale_ = 1;
  PlaintextRows rows_;
};

}  // namespace polyveil::circuits
