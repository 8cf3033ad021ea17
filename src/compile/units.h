// Units of the residual: its slots hold x / unit, one unit for each place where a bootstrap may
// stand, so that every such value fills [-1, 1] and a bootstrap's error is small against it.
#pragma once

#include <vector>

#include "model/decoder.h"

namespace polyveil::compile {

struct ResidualUnits {
  double input = 1;                    // the embedding, and so layer 0's input
  std::vector<double> middle, output;  // by layer: after attention, after the feed-forward

  double LayerInput(int layer) const { return layer == 0 ? input : output[layer - 1]; }
  double result() const { return output.back(); }
};

// The least unit from `unit` on at which the argument of the norm that reads the residual is free:
// FreeFactor of unit^2 / d_model.
double UnitForNorm(double unit, int d_model, const approx::Approximant& norm);

// The calibrated bound of each place times the calibration's margin; the model's overall bound
// where none is recorded; UnitForNorm of that.
ResidualUnits MakeResidualUnits(const model::Decoder& decoder);

}  // namespace polyveil::compile
