// One decoder step as a graph, without levels: Power-Softmax attention with an encrypted key-value
// cache and a bilinear feed-forward (layouts: layout.h).
#pragma once

#include "base/result.h"
#include "compile/graph.h"
#include "compile/layout.h"
#include "model/bundle.h"

namespace polyveil::compile {

// Folded here, so that no level is spent on them: 1/sqrt(d_head), the norms' gains (in the weights
// already), the residual's unit, kappa and the number of keys of the mean form (in the query's
// mask), the polynomials' affine maps (RescaleUnit), 1/2 of every real or imaginary part. The
// norm's inverse root multiplies after the matrix, beside which it is computed. The graph's shape
// is the same at every position; position enters constants only. Errors: kOutOfRange (shapes are
// refused by Layout::Create).
Result<Graph> LowerStep(const model::BodyBundle& bundle, const Layout& layout, int position);

// The part of LowerStep for one layer: input and result in the feature layout. Exposed for tests.
class GraphBuilder;
NodeId LowerLayer(GraphBuilder& builder, const model::BodyBundle& bundle, const Layout& layout,
                  int position, int layer, NodeId x);

}  // namespace polyveil::compile
