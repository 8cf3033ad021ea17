// Matrix products of bfloat16 operands with float32 accumulation and float32 results, on oneDNN.
#pragma once

#include <torch/torch.h>

namespace polyveil::train {

// x [..] rounded to bfloat16, to nearest even: x.to(torch::kBFloat16), for contiguous float32 (or a
// transposed view of it) in one vectorised pass.
torch::Tensor RoundToBf16(const torch::Tensor& x);

// c = a b (+ c when accumulate). a [m, k], b [k, n]: bfloat16 with one unit stride each, so
// transposed views are welcome; c [m, n]: contiguous float32, no part of a or b. Errors: none;
// where there are no such products the rounded operands are multiplied in float32, which differs
// from the product here by the order of its sums alone.
void MultiplyBf16(const torch::Tensor& a, const torch::Tensor& b, torch::Tensor& c,
                  bool accumulate = false);

// Whether oneDNN is built in and this processor multiplies bfloat16 (AVX-512 is enough).
bool HasBf16Products();

}  // namespace polyveil::train
