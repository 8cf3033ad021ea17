// The matrices of a block as linear maps for one position; weights are read when a term is made.
#pragma once

#include <memory>

#include "compile/layout.h"

namespace polyveil::compile {

// Values that a token's program needs beside the weights.
struct BlockUnits {
  double input = 1;   // of the residual that the matrices read
  double output = 1;  // of the residual that they write
  double key = 1, value = 1, product = 1;
  double gate = 1;    // of the activation's input
  double hidden = 1;  // of the gated factor; of both factors of a bilinear feed-forward
};

// Keys in the first halves of the rows and values in the second, both at `slot` of their half, as
// the real part; the queries, turned for `position`, at the last slot of the first half as the
// imaginary one.
LinearMap QkvMap(const model::Block& block, const BlockLayout& layout, const BlockUnits& units,
                 int position);
LinearMap ProjectionMap(const model::Block& block, const BlockLayout& layout,
                        const BlockUnits& units);
// gate + i up, or up alone. DownMap of a bilinear feed-forward takes both factors' product from the
// imaginary part of their square.
LinearMap HiddenMap(const model::Block& block, const BlockLayout& layout, const BlockUnits& units);
LinearMap DownMap(const model::Block& block, const BlockLayout& layout, const BlockUnits& units);

}  // namespace polyveil::compile
