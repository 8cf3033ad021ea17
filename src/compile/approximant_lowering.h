// An approximant (approx/approximant.h) as operations.
#pragma once

#include <string>

#include "approx/approximant.h"
#include "compile/graph_builder.h"

namespace polyveil::compile {

// What x is multiplied by to become a series' argument, x in units of `unit`.
double ArgumentFactor(double unit, const approx::Chebyshev& p);

// p(unit x) in every slot of x. Depth: p.LevelDepth(), and one level more where ArgumentFactor is
// no FreeFactor; the iterations' constants stand beside the start's evaluation.
NodeId LowerApproximant(GraphBuilder& builder, const std::string& name, NodeId x, double unit,
                        const approx::Approximant& p);

}  // namespace polyveil::compile
