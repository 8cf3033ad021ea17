// Caches whose keys and values are no secret, as slots.
#pragma once

#include <vector>

#include "compile/layout.h"
#include "compile/linear_map.h"
#include "model/public_context.h"

namespace polyveil::compile {

// value(element, head) at `slot` of every attention row.
template <typename F>
void FillAttentionSlot(const BlockLayout& l, int n_heads, int slot, F&& value,
                       std::vector<Complex>& out) {
  out.resize(static_cast<size_t>(l.slots));
  for (int e = 0; e < l.d_head; ++e)
    for (int h = 0; h < n_heads; ++h)
      out[static_cast<size_t>(l.AttentionRow(e, h) * l.attention.size + slot)] += value(e, h);
}

// By chunk: known keys and values divided by their units, at the slots of the first positions; of
// public ones those that do not stand in matrices. Empty for a chunk that has none.
std::vector<std::vector<Complex>> KnownCaches(const model::Block& block, const BlockLayout& layout,
                                              const model::PublicContext::KeyValues& known);

}  // namespace polyveil::compile
