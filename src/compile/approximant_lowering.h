// An approximant (approx/approximant.h) as operations.
#pragma once

#include <string>

#include "approx/approximant.h"
#include "compile/graph_builder.h"

namespace polyveil::compile {

// p(unit x) in every slot of x. Depth: p.LevelDepth(); a series costs no level for its unit, and
// the iterations' constants stand beside the start's evaluation.
NodeId LowerApproximant(GraphBuilder& builder, const std::string& name, NodeId x, double unit,
                        const approx::Approximant& p);

}  // namespace polyveil::compile
