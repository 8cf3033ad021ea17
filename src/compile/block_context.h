// What the lowering of one block's parts shares.
#pragma once

#include <algorithm>
#include <functional>
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

  bool many() const { return place.tokens > 0 && !place.room.in_blocks(); }  // at once, in rows
  bool in_blocks() const { return place.tokens > 0 && place.room.in_blocks(); }
  // Of tokens in blocks.
  int halves() const { return 2 * place.room.ciphertexts; }
  // Slots of a half that hold tokens: those behind are zero.
  int most() const { return std::min(place.room.groups * l.d_head, l.keys()); }
  // Rotations that sum over all features, and the period of such a sum.
  std::vector<int> FeatureRotations() const {
    return many() ? DoublingRotations(l.attention.size, Log2(l.attention.rows))
                  : DoublingRotations(1, Log2(l.width));
  }
  int LogFeaturePeriod() const { return Log2(many() ? l.slots : l.width); }
  int LogSumPeriod() const { return many() ? Log2(l.attention.size) : 0; }
  // Of this token among those in the caches: all but the known ones that stand in matrices.
  int cached() const { return place.position - place.in_matrices; }
  int slot() const { return cached() % l.keys(); }
  int chunk() const { return cached() / l.keys(); }
  // Keys of a chunk that the token sees, its own among them.
  int Seen(int chunk) const { return std::clamp(cached() + 1 - chunk * l.keys(), 0, l.keys()); }
  // Scores come in parts: one for each chunk, and behind them the known keys'.
  int parts() const { return l.chunks + (l.known_groups > 0 ? 1 : 0); }
  bool IsKnown(int part) const { return part == l.chunks; }
  // What the definition of the attention form divides by beside kappa.
  double KeyCount() const { return forms.attention.KeyCount(place.position + 1); }
  void Enter(Component component, const char* part) {
    b.Enter(place.index, component, fmt::format("layer {} / {} / ", place.index, part));
  }
  std::string Named(const char* what, int part) const {
    if (IsKnown(part)) return fmt::format("{} of public keys", what);
    return l.chunks == 1 ? what : fmt::format("{} {}", what, part);
  }
};

// Units of a block that reads and writes the residual in these.
BlockUnits MakeBlockUnits(const model::LayerConfig& forms, const ResidualUnit& input,
                          const ResidualUnit& output);

// value(feature) in the feature layout, or of tokens at once in their rows or blocks; zero in the
// padding.
template <typename F>
std::vector<Complex> ByFeature(const BlockContext& c, F&& value) {
  const size_t slots = c.many() ? static_cast<size_t>(c.l.attention.size) : 1;
  const bool at_once = c.many() || c.in_blocks();
  const auto features = static_cast<size_t>(at_once ? c.l.attention.rows : c.l.width);
  std::vector<Complex> values(features * slots);
  for (size_t i = 0; i < static_cast<size_t>(c.shape.d_model); ++i)
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(i * slots), slots, value(i));
  return values;
}

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

// value(h) at the keys of a part that the token sees, zero elsewhere; and `value` at the others.
std::vector<Complex> SeenMask(const BlockContext& c, int part,
                              const std::function<double(int)>& value);
std::vector<Complex> SeenFill(const BlockContext& c, int part, double value);

struct Biases {
  std::vector<double> q, k, v, o, gate, up, down;
};

// Of this position, of tokens at once of none; empty without biases.
Biases PositionBiases(const BlockContext& c);

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias);
// The part of sums by `mask`, whose values are real, times the root, with `bias`.
NodeId MaskedByRoot(BlockContext& c, const std::string& name, NodeId sums,
                    std::vector<Complex> mask, NodeId root, std::vector<Complex> bias);
// What is real already times the root, with `bias`.
NodeId ByRoot(BlockContext& c, const std::string& name, NodeId masked, NodeId root,
              std::vector<Complex> bias);
// (x_c channels[c])^2: with channels' own units x times their squares times x, a level more.
NodeId LowerSquares(BlockContext& c, NodeId x, const ChannelUnits& channels);
// What a place of the residual adds `update` to. with: as MarkResidual has it; -1: itself.
NodeId AddToResidual(BlockContext& c, NodeId x, const ResidualUnit& before,
                     const ResidualUnit& after, NodeId update, NodeId with = -1);
// A value that fills its unit, which the planner may bootstrap, where it bootstraps `with`: itself
// or an earlier one. real: tokens in blocks are a complex vector.
void MarkResidual(GraphBuilder& b, NodeId x, bool real, NodeId with);

// values in `unit` by feature, of tokens in blocks in both parts; x itself without biases.
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
