// Polynomials for a block whose forms are not given: swapped attention and fits on the ranges that
// a text shows. No training: the block computes another function than its softmax parent.
#pragma once

#include <span>
#include <vector>

#include "model/block_reference.h"

namespace polyveil::model {

struct BlockFit {
  double margin = 1.3;  // of every interval
  int norm_degree = 15, divisor_degree = 15, activation_degree = 15;
};

// Tokens' inputs of a block: [text][token][d_model].
using BlockTexts = std::vector<std::vector<std::vector<double>>>;

// floor(log2(bound / (2 |x_c|))) by channel, in 0..kMaxChannelExponent: a channel that is smaller
// than the bound keeps a factor of 2 beside the calibration's margin, since it was one of many.
// Empty where the median is below 3: units of their own cost a level of each norm, and bring less
// than three bits.
std::vector<int> ChannelExponents(double bound, std::span<const double> largest);

// Shifts are twice the largest |q . k| of the head (at least 2): powers grow with the score, and no
// divisor comes near zero; kappa centres it. Errors: kOutOfRange where a fit is not possible.
Result<LayerConfig> CalibrateBlock(const Block& block, const BlockTexts& texts,
                                   const BlockFit& fit);

}  // namespace polyveil::model
