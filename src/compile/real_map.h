// Real linear maps of real vectors in half of their terms.
#pragma once

#include <string>

#include "compile/graph_builder.h"

namespace polyveil::compile {

// The map's value; of a map of many terms half of it as the real part, which WholeOfReal makes
// whole, also behind sums. With x' = x + i rotate(x, terms / 2 strides) and diagonals d_k - i
// d_(k + terms / 2) the real part of the sum over k < terms / 2 is the map's. Maps of few terms
// stay as they are: packing takes a rotation and a conjugation. Depth: 1.
NodeId LowerRealMap(GraphBuilder& b, const std::string& name, NodeId x, LinearMap map);

// x where it is real, otherwise x + conj(x).
NodeId WholeOfReal(GraphBuilder& b, const std::string& name, NodeId x);

}  // namespace polyveil::compile
