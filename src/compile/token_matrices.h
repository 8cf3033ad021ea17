// The matrices of a block for all tokens of a prompt at once: from rows to rows (layout.h). A term
// reads every row's value from another row, so that diagonal k of a matrix is one number a row.
#pragma once

#include "compile/layout.h"
#include "compile/linear_map.h"
#include "model/block.h"

namespace polyveil::compile {

// Of one of the four maps: keys in the first halves of the rows and values in the second, both
// real, queries in the first as the imaginary part; outputs from the first halves; gate + i up (or
// up alone) of the first rows() hidden values in the first halves, of the others in the second.
LinearMap TokenMap(const BlockLayout& layout, const BlockUnits& units, MatrixKind kind, int layer,
                   double factor = 1);
std::vector<Complex> TokenDiagonal(const LinearMap& map, const model::BlockShape& shape,
                                   const BlockLayout& layout, const model::BlockWeights& weights,
                                   int term);

// Moves every row of element e by e tokens to the right, times `factor`.
LinearMap SkewMap(const BlockLayout& layout, double factor);
std::vector<Complex> SkewDiagonal(const LinearMap& map, const BlockLayout& layout, int term);

}  // namespace polyveil::compile
