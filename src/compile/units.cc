#include "compile/units.h"

#include <algorithm>

namespace polyveil::compile {

ResidualUnits MakeResidualUnits(const model::ModelConfig& config) {
  auto unit = [&](double bound) {
    return bound > 0 ? bound * std::max(1.0, config.calibration.margin) : config.residual_bound;
  };
  ResidualUnits units;
  units.input = unit(config.layers.front().bounds.residual_in);
  for (const model::LayerConfig& layer : config.layers) {
    units.middle.push_back(unit(layer.bounds.residual_mid));
    units.output.push_back(unit(layer.bounds.residual_out));
  }
  return units;
}

}  // namespace polyveil::compile
