// Lowering of the forms of attention (model/attention_form.h): powers by head, pointwise attention,
// QK-norm.
#pragma once

#include "compile/layer_context.h"

namespace polyveil::compile {

// (kappa N)^(-1/p) of one head: the divisor's centre and the mean's 1/N go into the score, so that
// its power is the summand (s + c)^p / (kappa N).
double ScoreUnit(const LayerContext& c, int head);

// What the definition sums over the keys, from the scores; of normalise-square the weights.
NodeId LowerSummands(LayerContext& c, NodeId score);

// x^power. Depth: ceil(log2 power).
NodeId LowerIntegerPower(GraphBuilder& builder, NodeId x, int power);

// score^p, p by head. Depth: ceil(log2 p) of the largest p, one more where heads differ (a mask).
NodeId LowerScorePowers(LayerContext& c, NodeId score);

// Sum of the powers times the values, spread over every slot of their block: forms without
// division. Depth: 2.
NodeId LowerPointwiseValues(LayerContext& c, NodeId powers, NodeId cache);

struct Qkv {
  NodeId query;  // at slots k <= position of each block's first half, in units of ScoreUnit
  NodeId cache;  // keys and values, this token's included
};

// Queries and keys divided by the root mean square of each head. qkv and conjugate: the
// projection's sums and their conjugates (keys + i queries, values). Depth: 4 + the roots'
// polynomials'.
Qkv LowerNormalisedQkv(LayerContext& c, NodeId qkv, NodeId conjugate, NodeId inverse_root);

}  // namespace polyveil::compile
