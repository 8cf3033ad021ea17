// Softmax approximated on ciphertexts, the forms that Power-Softmax is compared with: an
// exponential with squarings and a division, and normalise-and-square.
#pragma once

#include "compile/layer_context.h"

namespace polyveil::compile {

// What the scores are multiplied by so that the exponential's interval lies in [-1, 1].
double ExponentialScoreUnit(const model::AttentionForm& form);

// score: at the slots k <= position of each block, zero elsewhere, in the unit above. Result: e(z)
// of these keys times factor, zero elsewhere; a causal mask cannot come before an exponential.
// Depth: the series' + 1.
NodeId LowerExponential(LayerContext& c, NodeId score, double (*factor)(const LayerContext&, int));

// (e(z)^(2^r)) / (kappa N). Depth: the series' + 1 + r.
NodeId LowerExponentialPowers(LayerContext& c, NodeId score);

// Softmax's weights. Each round: mean of squares over the keys, its inverse root, product, square.
// Depth: the series' + 1, then 4 + the root's for every round; a round's result may be
// bootstrapped. Source: Cho, Hanrot, Kim, Park, Stehle 2024, "Fast and accurate homomorphic softmax
// evaluation", in mean form: weights times the number of keys have mean 1.
NodeId LowerNormaliseSquare(LayerContext& c, NodeId score);

}  // namespace polyveil::compile
