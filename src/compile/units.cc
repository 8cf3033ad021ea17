#include "compile/units.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"

namespace polyveil::compile {

double UnitForNorm(double unit, int d_model, const approx::Approximant& norm) {
  const double factor = ArgumentFactor(unit * unit / d_model, norm);
  return unit * std::sqrt(FreeFactor(factor, norm.degree()) / factor);
}

ResidualUnits MakeResidualUnits(const model::ModelConfig& config) {
  const auto unit = [&](double bound, const approx::Approximant* norm) {
    const double plain =
        bound > 0 ? bound * std::max(1.0, config.calibration.margin) : config.residual_bound;
    return norm != nullptr ? UnitForNorm(plain, config.d_model, *norm) : plain;
  };
  const std::vector<model::LayerConfig>& layers = config.layers;
  ResidualUnits units;
  units.input = unit(layers.front().bounds.residual_in, &layers.front().norm1);
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto* next = i + 1 < layers.size() ? &layers[i + 1].norm1 : nullptr;
    units.middle.push_back(unit(layers[i].bounds.residual_mid, &layers[i].norm2));
    units.output.push_back(unit(layers[i].bounds.residual_out, next));
  }
  return units;
}

}  // namespace polyveil::compile
