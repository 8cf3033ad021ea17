// What the lowering of one block's parts shares.
#pragma once

#include <algorithm>
#include <cmath>
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
  BlockUnits Units(double input, double output) const {
    const auto or_one = [](double bound) { return bound > 0 ? bound : 1; };
    return {input, output, or_one(forms.bounds.key), or_one(forms.bounds.value),
            or_one(forms.bounds.product),
            // Arguments of polynomials stay near their scale.
            std::max(std::abs(forms.activation->a), std::abs(forms.activation->b)),
            or_one(forms.bounds.hidden)};
  }
  void Enter(Component component, const char* part) {
    b.Enter(place.index, component, fmt::format("layer {} / {} / ", place.index, part));
  }
  // What the scores of head h are multiplied by so that their powers sum to the centred divisor.
  double ScoreUnit(int head) const {
    return std::pow(forms.kappa[head] * (place.position + 1), -1.0 / shape.power);
  }
};

struct Biases {
  std::vector<double> q, k, v, o, gate, up, down;
};

// Of this position; empty without biases.
Biases PositionBiases(const BlockContext& c);

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias);
// values / unit by feature; x itself without biases.
NodeId AddFeatureBias(BlockContext& c, const std::string& name, NodeId x,
                      const std::vector<double>& values, double unit);

// What attention and feed-forward add to the residual, divided by unit_after. x: their input
// divided by unit; root: its inverse root mean square.
NodeId LowerBlockAttention(BlockContext& c, NodeId x, NodeId root, double unit, double unit_after);
NodeId LowerBlockFeedForward(BlockContext& c, NodeId x, NodeId root, double unit,
                             double unit_after);

}  // namespace polyveil::compile
