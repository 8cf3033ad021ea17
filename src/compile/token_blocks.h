// A block of a prompt's tokens in blocks (layout.h): for models whose vectors are long and whose
// tokens are few in a ciphertext, as all released ones are.
//
// The residual is complex, a token in either part of a ciphertext, so that matrices and bootstraps
// serve both; what is not linear happens to these halves apart. A sum over a token's features takes
// a mask and a level, which rows do not need, but matrices are cheap (block_maps.h). Encoders hand
// on what is normalised (model/block.h); the mean of what they carry is taken out beside attention
// and feed-forward, where levels are free.
//
// Scores by offset: keys are skewed, row (e, h) moved by e tokens, so that for every distance o
// between rows the queries' elements o further on meet the skewed keys o tokens and o elements
// further on: the sum of all those products has the score with the key x tokens before at row
// (x, h); where blocks outnumber a head's elements, the same again with keys that many tokens
// further on. Values are the mirror image. Tokens are cyclic; what a query must not see is masked
// beside the values, where levels are free. docs/decisions/0022-prompts-in-blocks.md.
#pragma once

#include "compile/lower_block.h"

namespace polyveil::compile {

// x: the residual of all tokens in its unit `in`, a complex ciphertext for each 2 blocks() of them;
// the result in `out`. States: the caches as decoding keeps them; none of an encoder's.
std::vector<NodeId> LowerTokenBlocks(GraphBuilder& builder, const BlockPlace& place,
                                     const std::vector<NodeId>& x);

}  // namespace polyveil::compile
