// Where Power-Softmax starts: the shift of every head whose weights come nearest to softmax's.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "train/transformer.h"

namespace polyveil::train {

struct HeadStart {
  double shift = 0;
  double error = 0;  // of the head's output on the text, relative to softmax's, root mean square
  double divisor_ratio;  // largest to smallest mean of powers
};

// Sets shift, log_kappa and the norms' centres of student, a copy of teacher, layer by layer on the
// teacher's hidden states: (s + c)^p does not depend on the scale of s and c together, so one
// number a head is all that the form leaves free. c is sought on a geometric grid; kappa is the
// geometric mean of the divisors. batches [rows, context]. Returns [layer][head].
std::vector<std::vector<HeadStart>> StartPower(const Transformer& teacher, Transformer& student,
                                               const std::vector<torch::Tensor>& batches);

}  // namespace polyveil::train
