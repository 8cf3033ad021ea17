// Lowering of the forms of attention (model/attention_form.h): powers by head, approximated
// softmax, QK-norm.
#pragma once

#include <vector>

#include "compile/block_context.h"

namespace polyveil::compile {

// What the scores of head h are multiplied by: (kappa N)^(-1/p), so that their powers are the
// summands (s + c)^p / (kappa N), or what fits an exponential's interval into [-1, 1].
double ScoreUnit(const BlockContext& c, int head);

// What the definition sums over the keys, from the scores, by chunk; of normalise-square the
// weights. Depth: ceil(log2 p) of the largest p, one more where heads differ (a mask); of the
// approximated softmaxes: attention_softmax.h.
std::vector<NodeId> LowerSummands(BlockContext& c, const std::vector<NodeId>& scores);

// `scaled` times 1/sqrt of a head's mean square over its elements. x: what is normalised, times
// RootUnit, at slot `slot` of each row. Depth: 2 + the root's.
NodeId LowerHeadNorm(BlockContext& c, const std::string& name, NodeId x, NodeId scaled, int slot,
                     const approx::Approximant& root);
// Makes the sum of squares over a head's elements v / root.b.
double RootUnit(const BlockContext& c, const approx::Approximant& root);

}  // namespace polyveil::compile
