// Attention of a prompt's tokens in blocks, and the caches that it leaves (token_blocks.h).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "compile/block_context.h"

namespace polyveil::compile {

// The tokens' ciphertexts, each a complex vector; the halves of all of them, each a real one: those
// of ciphertext i are 2 i and 2 i + 1.
using Wholes = std::vector<NodeId>;
using Halves = std::vector<NodeId>;

// Between a complex vector of two halves and the two.
class TokenParts {
 public:
  explicit TokenParts(BlockContext& c) : b_(c.b) {}
  // Twice each half, real.
  Halves Split(const std::string& name, const Wholes& x);
  Wholes Pack(const std::string& name, const Halves& halves);
  // One map of every ciphertext, complex.
  Wholes Linear(const std::string& name, const Wholes& x, const LinearMap& map);

 private:
  GraphBuilder& b_;
};

// What a norm leaves: the roots in every slot of their token's block; at the first of each block
// four times the sum of the squares, complex; what 1 in the sum stands for; twice what it read.
struct TokenNorm {
  Halves roots;
  Wholes sums;
  double of_sum;
  Halves doubled;
};

// Halves in which heads' elements stand elsewhere than where queries meet them: those of a group's
// heads so many rows further on; each head is the first of `readers` that read it.
struct HeadHalves {
  struct Group {
    int apart = 0;
    std::vector<int> heads;
  };
  Halves halves;
  std::vector<Group> groups;
  int readers = 1;
};

// x plus its copies `step` slots, 2 step, ... further on, `count` in all.
NodeId WithCopies(GraphBuilder& b, const std::string& name, NodeId x, int count, int step);

// The heads' outputs. norm: in front; null where x is normalised already.
Halves LowerBlockHeads(BlockContext& c, TokenParts& t, const Wholes& x, const TokenNorm* norm,
                       const BlockUnits& units, const Biases& biases);

// Keys and values before their turn and the root, of tokens in blocks: from there to the layout of
// decoding, chunk by chunk.
void LowerBlockCaches(BlockContext& c, TokenParts& t, const HeadHalves& keys,
                      const HeadHalves& values, const TokenNorm& norm, const BlockUnits& units,
                      const Biases& biases);

// How many elements further on partners of a turn lie.
std::set<int> PartnerDistances(const BlockContext& c);

// A bias of element e of a head (shared: of the one whose keys it reads), turned by the token's
// position or not.
double TurnedBias(const BlockContext& c, const std::vector<double>& bias, bool turned, int token,
                  int e, int h, bool shared);

}  // namespace polyveil::compile
