// Attention of a prompt's tokens in blocks, and the caches that it leaves (token_blocks.h).
#pragma once

#include <array>
#include <set>

#include "compile/block_context.h"

namespace polyveil::compile {

// The two halves of the tokens, each a real vector.
using Both = std::array<NodeId, 2>;

// Between a complex vector of both halves and the two.
class TokenParts {
 public:
  explicit TokenParts(BlockContext& c) : b_(c.b) {}
  // Twice both, real.
  Both Split(const std::string& name, NodeId x);
  NodeId Pack(const std::string& name, const Both& parts);

 private:
  GraphBuilder& b_;
};

// What a norm leaves: the roots in every slot of their token's block; at the first of each block
// four times the sum of the squares, complex; what 1 in the sum stands for; twice what it read.
struct TokenNorm {
  Both roots;
  NodeId sums;
  double of_sum;
  Both doubled;
};

// The heads' outputs. norm: in front; null where x is normalised already.
Both LowerBlockHeads(BlockContext& c, TokenParts& t, NodeId x, const TokenNorm* norm,
                     const BlockUnits& units, const Biases& biases);

// Keys and values before their turn and the root, of tokens in blocks: from there to the layout of
// decoding, chunk by chunk.
void LowerBlockCaches(BlockContext& c, TokenParts& t, const Both& keys, const Both& values,
                      const TokenNorm& norm, const BlockUnits& units, const Biases& biases);

// How many elements further on partners of a turn lie.
std::set<int> PartnerDistances(const BlockContext& c);

// A bias of element e of a head (shared: of the one whose keys it reads), turned by the token's
// position or not.
double TurnedBias(const BlockContext& c, const std::vector<double>& bias, bool turned, int token,
                  int e, int h, bool shared);

}  // namespace polyveil::compile
