// What the lowering of one layer's parts shares.
#pragma once

#include <vector>

#include "compile/graph_builder.h"
#include "compile/layout.h"
#include "compile/units.h"
#include "model/bundle.h"

namespace polyveil::compile {

struct LayerContext {
  GraphBuilder& builder;
  const Layout& layout;
  const model::ModelConfig& config;
  const model::LayerConfig& layer;
  const model::LayerWeights& weights;
  int index;
  int position;
  ResidualUnits units;

  void Enter(Component component, const char* part) {
    builder.Enter(index, component, fmt::format("layer {} / {} / ", index, part));
  }
};

// value(h) at the slots `first` to `last` of every block, zero elsewhere; period: one element of
// every head.
template <typename F>
std::vector<Complex> BlockMask(const Layout& l, int first, int last, F value) {
  std::vector<Complex> mask(l.element_stride());
  for (int h = 0; h < l.n_heads; ++h) {
    for (int k = first; k <= last; ++k) mask[h * l.head_stride() + k] = value(h);
  }
  return mask;
}

}  // namespace polyveil::compile
