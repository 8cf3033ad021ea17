// How vectors of a decoder step lie in the slots.
//
// Feature layout: period d, slot s holds x[s mod d]. Residuals live here, so their bootstraps are
// sparse. Row layout:     blocks of `block` slots, row r in block r. Attention's row is (e, h) with
// e, the index inside a head, on
//                 top: a sum over e is a rotation sum over whole blocks and therefore cyclic, it
//                 needs no mask. The first half of a block is indexed by the key's position k for K
//                 and the scores, the second half for V.
// Matrix products alternate: features -> rows multiplies by a matrix whose row r lies in block r
// and sums inside the block (the result stands in one slot, a mask and rotations spread it); rows
// -> features sums over blocks (cyclic, no mask).
#pragma once

#include <vector>

#include "base/result.h"
#include "model/config.h"

namespace polyveil::compile {

struct Layout {
  int log_slots = 0;
  int d_model = 0, n_heads = 0, d_head = 0, d_ff = 0, context = 0;

  int slots() const { return 1 << log_slots; }
  int block() const { return slots() / d_model; }  // slots of one attention row
  int half() const { return block() / 2; }
  int head_stride() const { return block(); }
  int element_stride() const { return block() * n_heads; }
  int Row(int element, int head) const { return element * n_heads + head; }

  // kOutOfRange names the field when the ring has too few slots or a size is no power of two,
  // kInvalidArgument a feed-forward of which there is no program.
  static Result<Layout> Create(const model::ModelConfig& config, int log_slots);
};

// first, 2 first, 4 first, ... (count of them): the rotations of a sum over 2^count terms.
std::vector<int> DoublingRotations(int first, int count);
int Log2(int power_of_two);

}  // namespace polyveil::compile
