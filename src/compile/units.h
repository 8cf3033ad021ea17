// Units of the residual: its slots hold x_c / (unit channels[c]), one unit for each place where a
// bootstrap may stand, so that every such value fills [-1, 1] and a bootstrap's error is small
// against it. A few channels of released models are a hundred times as large as all others:
// channels have powers of two of their own there. What a client sends and receives has one unit.
#pragma once

#include <vector>

#include "compile/linear_map.h"
#include "model/decoder.h"

namespace polyveil::compile {

struct ResidualUnits {
  double input = 1;                    // the embedding, and so layer 0's input
  std::vector<double> middle, output;  // by layer: after attention, after the feed-forward
  std::vector<ChannelUnits> middle_channels, output_channels;
  std::vector<double> ending;  // of post-norm blocks: what the second norm reads

  double LayerInput(int layer) const { return layer == 0 ? input : output[layer - 1]; }
  ChannelUnits LayerInputChannels(int layer) const {
    return layer == 0 ? nullptr : output_channels[layer - 1];
  }
  double result() const { return output.back(); }
};

// The least unit from `unit` on at which the argument of the norm that reads the residual is free:
// FreeFactor of unit^2 / d_model.
double UnitForNorm(double unit, int d_model, const approx::Approximant& norm);

// The calibrated bound of each place times the calibration's margin; the model's overall bound
// where none is recorded; UnitForNorm of that. Of post-norm blocks the root of the largest square
// that a channel may have: of what is normalised the width, before a norm that of its interval.
// With a head the result's is the logits' bound.
ResidualUnits MakeResidualUnits(const model::Decoder& decoder);

}  // namespace polyveil::compile
