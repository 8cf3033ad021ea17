// The parts of a block between its products: norms, activations, rotary embedding.
#pragma once

#include <span>
#include <vector>

#include "approx/approximant.h"
#include "model/float32/float_matrix.h"
#include "model/formats/architecture.h"
#include "model/formats/weights.h"

namespace polyveil::model {

// A polynomial in the place of a function, except in some rows.
struct RowPolynomial {
  const approx::Approximant* polynomial = nullptr;  // null: the function itself in every row
  const std::vector<bool>* exact_rows = nullptr;    // rows of the function itself; null: none

  const approx::Approximant* Of(std::size_t row) const {
    return exact_rows && (*exact_rows)[row] ? nullptr : polynomial;
  }
};

// Every row on its own; sums in float64, as the smallest variances need it. In place.
// root: in the place of v -> 1/sqrt(v + eps).
void Normalize(NormKind kind, double eps, const NormWeights& norm, FloatMatrix& x,
               const RowPolynomial& root = {});

void Activate(Activation activation, FloatMatrix& x, const RowPolynomial& polynomial = {});

// cos and sin of position x frequency, of every pair of a head. Frequencies and angles are rounded
// to float32 like those that the models were trained with.
class RotaryTable {
 public:
  // factors: divisors of the frequencies that a GGUF file carries, dims / 2 of them, or empty.
  RotaryTable(const Rotary& rotary, std::span<const float> factors);

  // Rotates `heads` heads in place, `stride` values apart. Requires heads of at least `dims`
  // values.
  void Rotate(int position, float* first_head, int heads, int stride) const;

  const std::vector<float>& frequencies() const { return frequencies_; }  // one a pair

 private:
  std::vector<float> frequencies_;
  RotaryPairs pairs_;
};

}  // namespace polyveil::model
