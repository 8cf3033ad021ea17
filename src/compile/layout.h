// How vectors of a decoder step lie in the slots.
//
// Features: period D, the power of two from d_model on, the padding is zero: slot s holds x[s mod
//           D]. Residuals live here, so their bootstraps are sparse.
// Rows:     row r of a matrix in a block of `size` slots. Attention's row is (e, h) with e, the
//           index inside a head, on top: a sum over e is a rotation sum over whole blocks and
//           therefore cyclic, it needs no mask. The first half of a row is indexed by the key's
//           position for K and the scores, the second half for V; keys beyond one half lie in
//           further ciphertexts (chunks).
// Tokens:   a prompt's tokens at once, in attention's rows: feature f of token t stands in both
//           halves of row f, at slot t of each. Slots behind the last token's hold its copies up to
//           as many as the program takes, zero behind those.
// Blocks:   twice as many of a prompt's tokens at once: feature f of token t stands at slot f of
//           block t, a head's (e, h) at its row of attention; tokens from blocks() on are the
//           imaginary part. Slots behind the last token's hold its copies. More tokens take more
//           ciphertexts, 2 blocks of them each: what each of their parts holds is a `half`.
// Matrix products alternate: features -> rows multiplies by a matrix whose row r lies in block r
// and sums inside the block (the result stands in one slot, a mask and rotations spread it); rows
// -> features sums over blocks (cyclic, no mask). A matrix with more rows or columns than one
// product holds takes several rotated copies of the vector: a product from features to rows has
// windows of `window` columns and D / window terms, one from rows to features D / size of them.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/result.h"
#include "compile/linear_map.h"
#include "model/block.h"

namespace polyveil::compile {

struct RowLayout {
  int rows = 0;    // power of two
  int size = 0;    // slots of a row
  int window = 0;  // columns that one term sums
};

struct BlockLayout {
  int slots = 0;  // of one text
  int texts = 1;  // that stand beside each other in a ciphertext (texts.h)
  int width = 0;  // D
  int heads = 0;  // power of two
  int d_head = 0;
  int chunks = 1;  // ciphertexts of the key-value cache
  // Groups of keys() public keys each that queries meet as one matrix: a power of two, at most
  // d_head; 0: none, public keys lie in the caches.
  int known_groups = 0;
  // Attention's divisor is summed by itself and not beside the values: a level less and some
  // rotations more.
  bool divisor_apart = false;
  // What a prompt in blocks leaves in the caches takes its norms' roots from the blocks by a mask,
  // a level less than where they are evaluated once more for every chunk.
  bool roots_moved = false;
  RowLayout attention, hidden;

  int keys() const { return attention.size / 2; }  // of a chunk
  // Those of so many public tokens, the first of them, that stand in matrices: whole groups. The
  // others lie in the caches, so that a position's slot is the same with and without them.
  int InMatrices(int tokens) const { return known_groups > 0 ? tokens / keys() * keys() : 0; }
  int element_stride() const { return attention.size * heads; }
  int AttentionRow(int element, int head) const { return element * heads + head; }
  // Of tokens in blocks: slots of one, and how many there are.
  int block() const { return attention.rows; }
  int blocks() const { return attention.size; }
  // Distances between a query's and a key's block that one block of scores has rows for.
  int distances() const { return std::min(blocks(), d_head); }

  // context: keys that the cache holds at least. Errors: kOutOfRange (field, both values) where the
  // slots do not hold the rows or d_head is no power of two.
  // known: public tokens among them, whose whole groups queries meet as matrices.
  // texts: that share the slots, a power of two up to MostTexts.
  static Result<BlockLayout> Create(const model::BlockShape& shape, int context, int log_slots,
                                    int known = 0, int texts = 1);
};

// Of tokens in blocks: attention's cost grows with the square of their number.
inline constexpr int kMostTokenCiphertexts = 2;

// Where the tokens of a prompt's program stand, up to `tokens` of them: in rows of `size` slots, or
// in `size` blocks of rows.
struct TokenLayout {
  int slots = 0, size = 0, tokens = 0;
  bool blocks = false;
  int ciphertexts() const { return blocks ? (tokens + 2 * size - 1) / (2 * size) : 1; }
};
// All slots of each of a few ciphertexts.
using TokenSlots = std::vector<std::vector<Complex>>;
// Vectors of a prompt's tokens, divided by `unit`; and the other way round, that of the token at t.
TokenSlots PackTokens(std::span<const std::vector<double>> tokens, const TokenLayout& layout,
                      double unit);
std::vector<double> UnpackToken(const TokenSlots& slots, const TokenLayout& layout, int width,
                                int t, double unit);

// One token of each of several texts in the feature layout, divided by `unit`: feature f of text t
// at slot f texts + t, copies of the last one behind it. And the other way round, one text's.
std::vector<double> PackTexts(std::span<const std::vector<double>> embeddings, int texts,
                              double unit);
std::vector<double> UnpackText(std::span<const Complex> slots, int texts, int width, int text,
                               double unit);

// The rotations that sum what a map from rows to features leaves, over all slots of a feature.
std::vector<int> FeatureSum(const BlockLayout& l, const RowLayout& rows);

// first, 2 first, 4 first, ... (count of them): the rotations of a sum over 2^count terms.
std::vector<int> DoublingRotations(int first, int count);
int Log2(int power_of_two);

}  // namespace polyveil::compile
