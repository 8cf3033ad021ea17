// Softmax approximated on ciphertexts, the forms that Power-Softmax is compared with: an
// exponential with squarings and a division, and normalise-and-square. Everything by chunk of keys.
#pragma once

#include <vector>

#include "compile/block_context.h"

namespace polyveil::compile {

// What the scores are multiplied by so that the exponential's interval lies in [-1, 1].
double ExponentialScoreUnit(const model::AttentionForm& form);

// (e(z)^(2^r)) / (kappa N) of the keys that are seen, zero elsewhere. Depth: the series' + 1 + r.
std::vector<NodeId> LowerExponentialPowers(BlockContext& c, const std::vector<NodeId>& scores);

// Softmax's weights. Each round: mean of squares over the keys, its inverse root, product, square.
// Depth: the series' + 1, then 4 + the root's for every round; a round's result may be
// bootstrapped. Source: Cho, Hanrot, Kim, Park, Stehle 2024, "Fast and accurate homomorphic softmax
// evaluation", in mean form: weights times the number of keys have mean 1.
std::vector<NodeId> LowerNormaliseSquare(BlockContext& c, const std::vector<NodeId>& scores);

}  // namespace polyveil::compile
