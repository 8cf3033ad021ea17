// Attention of a prompt's tokens among themselves, all at once, in rows (layout.h).
//
// Scores are computed by offset t = query's position - key's. Row (e, h) of M_d holds the keys'
// element e moved (e - d) mod d_head tokens to the right, so that
//   row x of sum_d rotate(Q * M_d, d rows of elements) = sum_e Q(e, i) K(e, i - x)
// is the score at offset x: d_head offsets fill the rows of one ciphertext, a group. Another group
// moves the query by d_head tokens and the sum back. M_d is made d rows further on already, so that
// the query alone is rotated and the products are summed before their one relinearisation. Values
// are the mirror image: row (e, h) of
//   sum_d rotate(W, -d rows of elements) * M_d  =  sum_x W(x, i) V(e, i - x).
// Two groups are one complex vector: as many products and rotations as for one. Keys and values
// stand in the first halves of rows whose second ones are zero, so what a rotation brings from
// another row is zero: the causal mask costs nothing.
#pragma once

#include "compile/block_context.h"

namespace polyveil::compile {

// The sum of summands times values in the first halves of the rows.
struct TokenValues {
  NodeId sum;
  // The sum of the summands / b, of a form that divides; -1 where i times it stands beside the
  // values' sum, both halved: of a single group.
  NodeId divisor = -1;
};

// States: keys and values, as decoding keeps them. Depth: 5 and the powers'.
TokenValues LowerTokenValues(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                             const Biases& biases);

}  // namespace polyveil::compile
