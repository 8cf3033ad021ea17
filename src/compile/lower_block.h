// Lowers blocks, and one step of a decoder, to operations on slots, without levels
// (docs/decisions/0001-decode-layout.md, 0012-blocks.md; layouts: layout.h).
//
// Folded into constants, so that no level is spent on them: 1/sqrt(d_head), the norms' gains (in
// the weights already), the residual's unit, kappa and the number of keys of the mean form (in the
// query's mask), the polynomials' affine maps, 1/2 of every real or imaginary part.
#pragma once

#include <span>

#include "compile/graph_builder.h"
#include "compile/layout.h"
#include "compile/units.h"
#include "model/decoder.h"
#include "model/public_context.h"

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
  ResidualUnit in{}, middle{}, out{};
  // Public tokens that stand in matrices (BlockLayout::InMatrices), and the keys and values of all
  // behind the prefix' own; null without.
  int in_matrices = 0;
  KnownKeyValues known = nullptr;
  // Of a prompt at once: its tokens at positions 0 .. tokens - 1, and the groups of d_head offsets
  // between a query and a key that the program has room for. 0: one token at `position`.
  int tokens = 0, groups = 0;
  int cache_level = 0;  // at which decoding reads what a prompt leaves
};

// x: the residual in the feature layout in its unit `in`; the result in `out`. Depth
// without bootstraps: 13 + 2 p + q + a for polynomials of depth p (norms), q (divisor), a
// (activation) in a sequential gated block with power 4. Cut values: residuals, divisor, product of
// the feed-forward, those of the attention form. States: layout.chunks for each block.
NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x);

// Every block, one after another, for the token at `position` (public tokens counted, the prefix
// not). The graph's shape is the same at every position and for all public contexts; these enter
// constants only. known: public tokens that the layout has matrices for, or null; the constants
// hold it. Errors: kOutOfRange for a position outside the context or beyond the caches' room.
Result<Graph> LowerStep(const model::Decoder& decoder, const BlockLayout& layout, int position,
                        const std::shared_ptr<const model::PublicContext>& known = nullptr);

// The first `tokens` tokens of a text at once, in rows (layout.h): slot (f, half, t) of the input
// and the output is feature f of token t, in both halves; tokens behind the last are its copies.
// groups: of d_head offsets, tokens <= groups d_head. The states are those behind the last token's
// step. Errors: kOutOfRange for tokens outside 1 .. groups d_head or keys(), what CheckPrompt
// refuses.
Result<Graph> LowerPrompt(const model::Decoder& decoder, const BlockLayout& layout, int tokens,
                          int groups, std::span<const int> state_levels);
// Whether the model has such a program. Errors: kOutOfRange, naming what stands in the way.
Status CheckPrompt(const model::Decoder& decoder, const BlockLayout& layout);

}  // namespace polyveil::compile
