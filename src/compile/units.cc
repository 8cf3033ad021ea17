#include "compile/units.h"

#include <algorithm>
#include <cmath>

#include "compile/approximant_lowering.h"

namespace polyveil::compile {

double UnitForNorm(double unit, int d_model, const approx::Approximant& norm) {
  const double factor = ArgumentFactor(unit * unit / d_model, norm);
  return unit * std::sqrt(FreeFactor(factor, norm.degree()) / factor);
}

namespace {

ChannelUnits FromExponents(const std::vector<int>& exponents) {
  if (std::ranges::all_of(exponents, [](int e) { return e == 0; })) return nullptr;
  auto units = std::make_shared<std::vector<double>>();
  for (const int e : exponents) units->push_back(std::exp2(-e));
  return units;
}

ResidualUnits PostNormUnits(const model::Decoder& decoder) {
  const double normalised = std::sqrt(decoder.width());
  const auto before = [&](const approx::Approximant& norm) {
    return UnitForNorm(normalised * std::sqrt(norm.b), decoder.width(), norm);
  };
  ResidualUnits units;
  units.input = normalised;
  for (const model::Block& block : decoder.blocks) {
    units.middle.push_back(before(block.forms.norm1));
    units.ending.push_back(before(block.forms.norm2));
    units.output.push_back(block.shape.norm_outside ? units.ending.back() : normalised);
    units.middle_channels.push_back(nullptr);
    units.output_channels.push_back(nullptr);
  }
  if (decoder.head) units.output.back() = decoder.head->forms.bound;
  return units;
}

}  // namespace

ResidualUnits MakeResidualUnits(const model::Decoder& decoder) {
  if (decoder.blocks.front().shape.post_norm) return PostNormUnits(decoder);
  const double otherwise = decoder.residual_bound > 0 ? decoder.residual_bound : 1;
  const auto unit = [&](double bound, const approx::Approximant* norm) {
    const double plain = bound > 0 ? bound * std::max(1.0, decoder.margin) : otherwise;
    return norm != nullptr ? UnitForNorm(plain, decoder.width(), *norm) : plain;
  };
  const std::vector<model::Block>& blocks = decoder.blocks;
  ResidualUnits units;
  units.input = unit(blocks.front().forms.bounds.residual_in, &blocks.front().forms.norm1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const model::LayerBounds& bounds = blocks[i].forms.bounds;
    const auto* next = i + 1 < blocks.size() ? &blocks[i + 1].forms.norm1 : nullptr;
    units.middle.push_back(unit(bounds.residual_mid, &blocks[i].forms.norm2));
    units.output.push_back(unit(bounds.residual_out, next));
    units.middle_channels.push_back(FromExponents(bounds.mid_exponents));
    units.output_channels.push_back(next ? FromExponents(bounds.out_exponents) : nullptr);
  }
  return units;
}

}  // namespace polyveil::compile
