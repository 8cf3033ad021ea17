// Keys and values of public tokens that a query meets as two matrices: no ciphertext of keys, no
// relinearisation. Groups of keys() keys take turns over a head's elements e:
//   scores   y(e, h, k) = sum_(r < groups) K_(group e mod groups, key k)[e + r, h] q(e + r, h, k),
//            then a sum over the blocks of `groups` elements; the result has period groups
//            elements;
//   values   z(e, h, k) = sum_(r < groups) V_(group (e + r) mod groups, key k)[e, h] w(e + r, h,
//   k).
#pragma once

#include "compile/block_context.h"

namespace polyveil::compile {

LinearMap KnownKeysMap(const BlockContext& c, const BlockUnits& units);
// At the values' half of the rows. beside: what is added to every value of a seen key.
LinearMap KnownValuesMap(const BlockContext& c, const BlockUnits& units, Complex beside);

// A diagonal of either; zero in a plan, which knows no tokens. prefix: the block's constant tokens.
std::vector<Complex> KnownDiagonal(const LinearMap& map, const model::BlockShape& shape,
                                   const BlockLayout& layout, int prefix, int term);

}  // namespace polyveil::compile
