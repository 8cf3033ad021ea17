// Lowers blocks, and one step of a decoder, to operations on slots, without levels
// (docs/decisions/0001-decode-layout.md, 0012-blocks.md; layouts: layout.h).
//
// Folded into constants, so that no level is spent on them: 1/sqrt(d_head), the norms' gains (in
// the weights already), the residual's unit, kappa and the number of keys of the mean form (in the
// query's mask), the polynomials' affine maps, 1/2 of every real or imaginary part.
#pragma once

#include <limits>
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

// What a prompt's program has room for: in rows so many groups of d_head offsets between a query
// and a key, or in blocks (no groups) so many ciphertexts of tokens.
struct PromptRoom {
  int groups = 0, ciphertexts = 1;
  bool in_blocks() const { return groups == 0; }
};

struct BlockPlace {
  const model::Block& block;
  const BlockLayout& layout;
  int index;
  int position;  // the prefix included
  ResidualUnit in{}, middle{}, out{};
  ResidualUnit ending{};  // of a post-norm block: what its second norm reads
  // Public tokens that stand in matrices (BlockLayout::InMatrices), and the keys and values of all
  // behind the prefix' own; null without.
  int in_matrices = 0;
  KnownKeyValues known = nullptr;
  // Of a prompt at once: its tokens behind the prefix, and what the program has room for. Without
  // tokens: one token at `position`.
  int tokens = 0;
  PromptRoom room{};
  int most_cache_level = std::numeric_limits<int>::max();  // at which a prompt may leave them
  std::span<const int> cache_levels = {};  // by chunk: where decoding reads what a prompt leaves
  std::span<const int> texts = {};  // tokens of each where they are independent; empty: one text
  const model::EncoderHead* head = nullptr;  // behind the last block; the result is its logits
};

// x: the residual in the feature layout in its unit `in`; the result in `out`. Depth
// without bootstraps: 13 + 2 p + q + a for polynomials of depth p (norms), q (divisor), a
// (activation) in a sequential gated block with power 4; 12 + .. with the divisor apart. Cut
// values: residuals, divisor, product of the feed-forward, those of the attention form. States:
// layout.chunks for each block.
NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x);

// Every block, one after another, for the token at `position` (public tokens counted, the prefix
// not). The graph's shape is the same at every position and for all public contexts; these enter
// constants only. known: public tokens that the layout has matrices for, or null; the constants
// hold it. most_cache_level: that the caches are read at. Errors: kOutOfRange for a position
// outside the context or beyond the caches' room.
Result<Graph> LowerStep(const model::Decoder& decoder, const BlockLayout& layout, int position,
                        const std::shared_ptr<const model::PublicContext>& known = nullptr,
                        int most_cache_level = std::numeric_limits<int>::max());

// The first `tokens` tokens of a text at once, in rows or blocks (layout.h), as PackTokens lays
// them out; the outputs likewise. The states are those behind the last token's step; an encoder has
// none. texts: of an encoder, how many tokens each of several independent texts has, one behind
// another; empty: one text. Errors: kOutOfRange for tokens outside 1 .. PromptTokens, what
// CheckPrompt refuses, kMismatch for texts that are not `tokens` long together.
Result<Graph> LowerPrompt(const model::Decoder& decoder, const BlockLayout& layout, int tokens,
                          PromptRoom room, std::span<const int> state_levels,
                          std::span<const int> texts = {});
// Tokens that such a program takes at most; of an encoder those of several texts, each of which
// fits the context.
int PromptTokens(const model::Decoder& decoder, const BlockLayout& layout, PromptRoom room);
// Ciphertexts of tokens in blocks that the context fills, at most kMostTokenCiphertexts.
int TokenCiphertexts(const model::Decoder& decoder, const BlockLayout& layout);
enum class PromptForm { kRows, kBlocks };
// How the model's programs for prompts lay tokens out: in rows, where one ciphertext has room for
// what a block needs, or else in blocks. Errors: kOutOfRange, naming what stands in the way.
Result<PromptForm> CheckPrompt(const model::Decoder& decoder, const BlockLayout& layout);

}  // namespace polyveil::compile
