// y = x W^T + b with weights where they stand in the file, in whatever type, products by BLAS.
#pragma once

#include <vector>

#include "model/float32/float_matrix.h"
#include "model/formats/weights.h"

namespace polyveil::model {

// Shape: x [rows, in] -> y columns [first_col, first_col + out) of [rows, y.cols].
// Tiles of output features are decoded to float32 and multiplied in parallel; aligned float32
// weights are used in place. Cost: 2 rows in out flops, out in elements decoded.
void Apply(const Linear& linear, const FloatMatrix& x, FloatMatrix& y, int first_col = 0);
FloatMatrix Apply(const Linear& linear, const FloatMatrix& x);

// C [m, n] = alpha A [m, k] op(B) (+ C): row-major with strides, one thread. transpose_b: B is
// [n, k].
struct MatrixProduct {
  int m, n, k;
  float alpha;
  const float* a;
  int a_stride;
  const float* b;
  int b_stride;
  bool transpose_b;
  float* c;
  int c_stride;
};
void Multiply(const MatrixProduct& product);

}  // namespace polyveil::model
