// The linear maps of a prompt's tokens in blocks (layout.h). A matrix has a diagonal for every
// distance between a row and a column, each of which repeats in every block: its plaintext has a
// block's values in place of all slots'.
#pragma once

#include <optional>

#include "compile/layout.h"
#include "compile/linear_map.h"
#include "model/block.h"
#include "model/encoder_head.h"

namespace polyveil::compile {

// Heads of keys and values that several queries read stand once each in the rows of one matrix:
// beside the queries' where those leave room among the padded heads, else by themselves. (SmolLM2:
// 9 queries, 3 keys and 3 values in the place of 16.)
struct JoinedHeads {
  bool with_queries = false;
  std::vector<int> keys, values;  // the place of each
};
// Nothing where no queries share them.
std::optional<JoinedHeads> JoinHeads(const BlockLayout& l, const model::BlockShape& shape);
inline constexpr int kJoinedHeads = 3;  // the `block` of their map

// block: of kQkv queries, keys, values or kJoinedHeads; of kHidden gate (or up alone) and up of so
// many features each in turn; of kDown which of those it reads. factor: of all entries.
LinearMap BlockMap(const BlockLayout& l, const model::BlockShape& shape, const BlockUnits& units,
                   MatrixKind kind, int layer, int block, double factor);

// Moves row (e, h) by e % distances() tokens to the right, cyclically.
LinearMap BlockSkewMap(const BlockLayout& l, double factor);

// Exchanges two digits of the slots' index, of `base` values and these weights.
LinearMap DigitSwapMap(int base, int low, int high);
// Of a layout in blocks of rows, the weights of the exchanges after which slot (row, t) holds what
// slot (t, row) held, and the digits' base.
struct Transposition {
  int base = 2;
  std::vector<std::pair<int, int>> swaps;  // low, high
};
Transposition TokensToRows(const BlockLayout& l);

// Slot u holds `factor` times the first of block u, first <= u < last; zero elsewhere.
LinearMap TokenGatherMap(const BlockLayout& l, int first, int last, double factor);

// Of queries and skewed keys: row (x, h) of token t holds the score of the query with the key that
// lies x tokens before it, cyclically, x < distances().
LinearMap ScoreBand(const BlockLayout& l);
// Of skewed values and of what rows (x, h) hold of scores with keys seen.first + x tokens before:
// `factor` times the sum of those keys that are seen.
LinearMap ValueBand(const BlockLayout& l, KeysSeen seen, int tokens, double factor);

// Whether a query at block t of its half sees the key seen.first + x tokens before.
bool IsSeen(const BlockLayout& l, const KeysSeen& seen, int tokens, int t, int x);

// The scores of constant tokens at rows (blocks() + j, h); the weighted sum of their values, with
// `beside` beside each.
LinearMap PrefixKeysMap(const BlockLayout& l, const BlockUnits& units, int layer, int prefix,
                        double factor);
LinearMap PrefixValuesMap(const BlockLayout& l, const BlockUnits& units, int layer, int prefix,
                          double factor, Complex beside);

// kPooler or kClassifier, from the features of what is normalised, or pooled, to values or labels.
// factor: of all entries.
LinearMap HeadMap(const BlockLayout& l, const model::EncoderHead& head, MatrixKind kind, int layer,
                  double factor);
std::vector<Complex> HeadDiagonal(const LinearMap& map, const model::EncoderHead& head,
                                  const BlockLayout& l, int term);

// Of the other maps above.
std::vector<Complex> BlockDiagonal(const LinearMap& map, const model::Block& block,
                                   const BlockLayout& l, const model::BlockWeights* weights,
                                   int term);

}  // namespace polyveil::compile
