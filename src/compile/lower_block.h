// Lowers a block of a released architecture to operations on slots.
#pragma once

#include "compile/block_layout.h"
#include "compile/graph_builder.h"
#include "compile/units.h"
#include "model/block.h"

namespace polyveil::compile {

struct BlockPlace {
  const model::Block& block;
  const BlockLayout& layout;
  int index;
  int position;                           // the prefix included
  double unit_in, unit_middle, unit_out;  // of the residual
};

// x: the residual in the feature layout divided by unit_in; the result divided by unit_out. Depth
// without bootstraps: 13 + 2 p + q + a for polynomials of depth p (norms), q (divisor), a
// (activation) in a sequential gated block with power 4. Cut values: residuals, divisor, product of
// the feed-forward. States: layout.chunks for each block. docs/decisions/0012-blocks.md.
NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x);

}  // namespace polyveil::compile
