// What the lowering of one block's parts shares.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "compile/block_matrices.h"
#include "compile/lower_block.h"

namespace polyveil::compile {

// Shared by the parts of one block.
struct BlockContext {
  GraphBuilder& b;
  const BlockPlace& place;
  const BlockLayout& l;
  const model::BlockShape& shape;
  const model::LayerConfig& forms;

  int slot() const { return place.position % l.keys(); }
  int chunk() const { return place.position / l.keys(); }
  // Keys of a chunk that the token sees, its own among them.
  int Seen(int chunk) const {
    return std::clamp(place.position + 1 - chunk * l.keys(), 0, l.keys());
  }
  // What the definition of the attention form divides by beside kappa.
  double KeyCount() const { return forms.attention.KeyCount(place.position + 1); }
  BlockUnits Units(const ResidualUnit& input, const ResidualUnit& output) const;
  void Enter(Component component, const char* part) {
    b.Enter(place.index, component, fmt::format("layer {} / {} / ", place.index, part));
  }
  std::string Named(const char* what, int chunk) const {
    return l.chunks == 1 ? what : fmt::format("{} {}", what, chunk);
  }
};

// value(h) at slots first..last of every head's rows, zero elsewhere; period: one element of every
// head.
template <typename F>
std::vector<Complex> HeadMask(const BlockContext& c, int first, int last, F&& value) {
  std::vector<Complex> mask(static_cast<size_t>(c.l.element_stride()));
  for (int h = 0; h < c.shape.n_heads; ++h)
    for (int k = first; k <= last; ++k)
      mask[static_cast<size_t>(h * c.l.attention.size + k)] = value(h);
  return mask;
}

// `value` wherever HeadMask is zero: what a polynomial reads there must lie inside its interval.
std::vector<Complex> HeadFill(const BlockContext& c, int first, int last, double value);

struct Biases {
  std::vector<double> q, k, v, o, gate, up, down;
};

// Of this position; empty without biases.
Biases PositionBiases(const BlockContext& c);

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias);
// values in `unit` by feature; x itself without biases.
NodeId AddFeatureBias(BlockContext& c, const std::string& name, NodeId x,
                      const std::vector<double>& values, const ResidualUnit& unit);

// What attention and feed-forward add to the residual, in the unit `after`. x: their input in
// `unit`; root: its inverse root mean square (of a bilinear feed-forward the square of
// that).
NodeId LowerBlockAttention(BlockContext& c, NodeId x, NodeId root, const ResidualUnit& unit,
                           const ResidualUnit& after);
NodeId LowerBlockFeedForward(BlockContext& c, NodeId x, NodeId root, const ResidualUnit& unit,
                             const ResidualUnit& after);

}  // namespace polyveil::compile
