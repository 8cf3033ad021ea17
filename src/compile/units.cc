#include "compile/units.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"

namespace polyveil::compile {
namespace {

struct Residual {
  int width;
  double margin, bound;
  std::vector<const model::LayerConfig*> layers;
};

ResidualUnits UnitsOf(const Residual& r) {
  const auto unit = [&](double bound, const approx::Approximant* norm) {
    const double plain = bound > 0 ? bound * std::max(1.0, r.margin) : (r.bound > 0 ? r.bound : 1);
    return norm != nullptr ? UnitForNorm(plain, r.width, *norm) : plain;
  };
  ResidualUnits units;
  units.input = unit(r.layers.front()->bounds.residual_in, &r.layers.front()->norm1);
  for (size_t i = 0; i < r.layers.size(); ++i) {
    const auto* next = i + 1 < r.layers.size() ? &r.layers[i + 1]->norm1 : nullptr;
    units.middle.push_back(unit(r.layers[i]->bounds.residual_mid, &r.layers[i]->norm2));
    units.output.push_back(unit(r.layers[i]->bounds.residual_out, next));
  }
  return units;
}

}  // namespace

double UnitForNorm(double unit, int d_model, const approx::Approximant& norm) {
  const double factor = ArgumentFactor(unit * unit / d_model, norm);
  return unit * std::sqrt(FreeFactor(factor, norm.degree()) / factor);
}

ResidualUnits MakeResidualUnits(const model::Decoder& decoder) {
  Residual residual{decoder.width(), decoder.margin, decoder.residual_bound, {}};
  for (const model::Block& block : decoder.blocks) residual.layers.push_back(&block.forms);
  return UnitsOf(residual);
}

ResidualUnits MakeResidualUnits(const model::ModelConfig& config) {
  Residual residual{config.d_model, config.calibration.margin, config.residual_bound, {}};
  for (const model::LayerConfig& layer : config.layers) residual.layers.push_back(&layer);
  return UnitsOf(residual);
}

}  // namespace polyveil::compile
