// Polynomials for a block whose forms are not given: swapped attention and fits on the ranges that
// a text shows. No training: the block computes another function than its softmax parent.
#pragma once

#include <vector>

#include "model/block_reference.h"

namespace polyveil::model {

struct BlockFit {
  double margin = 1.3;  // of every interval
  int norm_degree = 15, divisor_degree = 15, activation_degree = 15;
};

// Tokens' inputs of a block: [text][token][d_model].
using BlockTexts = std::vector<std::vector<std::vector<double>>>;

// Shifts are twice the largest |q . k| of the head (at least 2): powers grow with the score, and no
// divisor comes near zero; kappa centres it. Errors: kOutOfRange where a fit is not possible.
Result<LayerConfig> CalibrateBlock(const Block& block, const BlockTexts& texts,
                                   const BlockFit& fit);

}  // namespace polyveil::model
