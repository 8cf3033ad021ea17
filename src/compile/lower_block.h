// Lowers blocks, and one step of a decoder, to operations on slots, without levels
// (docs/decisions/0001-decode-layout.md, 0012-blocks.md; layouts: layout.h).
//
// Folded into constants, so that no level is spent on them: 1/sqrt(d_head), the norms' gains (in
// the weights already), the residual's unit, kappa and the number of keys of the mean form (in the
// query's mask), the polynomials' affine maps, 1/2 of every real or imaginary part.
#pragma once

#include "compile/graph_builder.h"
#include "compile/layout.h"
#include "compile/units.h"
#include "model/decoder.h"

namespace polyveil::compile {

// What 1 in the slot of channel c stands for: unit channels[c].
struct ResidualUnit {
  double unit = 1;
  ChannelUnits channels{};
};

struct BlockPlace {
  const model::Block& block;
  const BlockLayout& layout;
  int index;
  int position;  // the prefix included
  ResidualUnit in, middle, out;
};

// x: the residual in the feature layout in its unit `in`; the result in `out`. Depth
// without bootstraps: 13 + 2 p + q + a for polynomials of depth p (norms), q (divisor), a
// (activation) in a sequential gated block with power 4. Cut values: residuals, divisor, product of
// the feed-forward, those of the attention form. States: layout.chunks for each block.
NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x);

// Every block, one after another, for the token at `position` (the prefix not counted). The graph's
// shape is the same at every position; position enters constants only. Errors: kOutOfRange for a
// position outside the context.
Result<Graph> LowerStep(const model::Decoder& decoder, const BlockLayout& layout, int position);

}  // namespace polyveil::compile
