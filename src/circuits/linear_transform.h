// Linear maps on slots given by their diagonals: y_j = sum_r diag_r[j] x_(j+r), baby-step giant-step with double
// hoisting (ePrint 2020/1203).
#pragma once

#include <map>
#include <vector>

#include "base/result.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/key_request.h"

namespace polyveil::circuits {

// Diagonals with period 2^log_period (every vector has that many entries); rotations are taken modulo the period.
struct DiagonalMatrix {
  int log_period = 0;
  std::map<int, std::vector<ckks::Complex>> diagonals;
};

class LinearTransform {
 public:
  // Encodes the diagonals (pre-rotated for their giant step) at `level` so that an input of scale `input_scale`
  // gives `output_scale` after the rescale. baby_steps = 0: the measured cost model chooses the split.
  static Result<LinearTransform> Create(const ckks::Encoder& encoder, const DiagonalMatrix& matrix, int level,
                                        double input_scale, double output_scale, int baby_steps = 0);
  // Rotations that Apply needs, at its level. Static form: before any encoding, from the matrix' shape alone.
  void AddKeys(ckks::KeyRequest& request, int slots) const;

  // Level/scale: level - 1, output_scale. Cost: hoisted baby rotations, one ModDown per giant step (lazy), one rescale.
  Result<ckks::Ciphertext> Apply(const ckks::Evaluator& evaluator, const ckks::Ciphertext& x) const;

 private:
  int level_ = 0, log_period_ = 0, baby_steps_ = 1;
  double input_scale_ = 1, output_scale_ = 1;
  std::map<int, std::map<int, ckks::Plaintext>> giants_;  // giant rotation -> baby rotation -> diagonal
};

}  // namespace polyveil::circuits
