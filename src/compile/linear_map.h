// A matrix of a block between two layouts, as data: a program of a large model holds its matrices
// without their weights; block_matrices.h makes the diagonals.
#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "model/public_context.h"

namespace polyveil::compile {

using Complex = std::complex<double>;

// By channel of the residual, beside the unit; null: 1 for all.
using ChannelUnits = std::shared_ptr<const std::vector<double>>;

// What a value of 1 in a slot stands for.
struct BlockUnits {
  double input = 1;   // of the residual that the matrices read
  double output = 1;  // of the residual that they write
  ChannelUnits input_channels{}, output_channels{};
  double key = 1, value = 1, product = 1;
  double gate = 1;    // of the activation's input
  double hidden = 1;  // of the gated factor; of both factors of a bilinear feed-forward
};

// kKnownKeys and kKnownValues are of public tokens (known_keys.h), kSkew is of a prompt in rows
// (token_attention.cc), those from kBlockSkew on of one in blocks (block_maps.h): no weights.
// kVocabulary and kEmbedding are a choice's (choice_lowering.h), kPooler and kClassifier a head's
// (block_maps.h): no block's weights.
enum class MatrixKind {
  kQkv,
  kProjection,
  kHidden,
  kDown,
  kKnownKeys,
  kKnownValues,
  kSkew,
  kBlockSkew,
  kDigitSwap,
  kTokenGather,
  kScoreBand,
  kValueBand,
  kPrefixKeys,
  kPrefixValues,
  kVocabulary,
  kEmbedding,
  kTokenBits,
  kPooler,
  kClassifier,
};

// Which keys the queries of a half of the tokens in blocks (layout.h) see among those of a half, at
// distances of `first` tokens and more.
struct KeysSeen {
  int query_half = 0, key_half = 0, first = 0;
  bool causal = true;
  std::vector<int> texts{};  // tokens of each independent text; empty: one text
};

using KnownKeyValues = std::shared_ptr<const model::PublicContext::KeyValues>;

// y_s = sum_k diagonal_k[s] x_(s + (first + k) stride), k = 0 .. terms - 1; of a band
// (OpKind::kBand) times z_(s + (first + k) other).
struct LinearMap {
  int terms = 1, stride = 1;
  MatrixKind kind = MatrixKind::kQkv;
  int layer = 0;
  int position = -1;    // of a token whose matrix is its own; -1: the same for all
  bool packed = false;  // half of the terms: d_k - i d_(k + terms), halved
  BlockUnits units{};
  // From rows to rows (layout.h): the matrix' entries times `factor` for all tokens of a prompt.
  bool of_tokens = false;
  double factor = 1;
  // Of public tokens that stand in matrices: how many, all tokens' keys and values (null: none),
  // what is added to each value.
  int in_matrices = 0;
  KnownKeyValues known{};
  Complex beside{};
  // Between tokens in blocks (block_maps.h): which of the matrices of its kind; its diagonals
  // repeat `period` entries (0: one a slot).
  bool of_blocks = false;
  int block = 0, period = 0;
  int first = 0, other = 0;
  int baby_steps = 0;     // so that different maps share keys; 0: as many as are fastest
  int low = 0, high = 0;  // weights of the two digits that are exchanged; tokens from `low` on
  int tokens = 0;         // of the prompt
  KeysSeen seen{};        // of a band of values
  // Of a band: the first operand's products with the diagonals are rescaled one by one, so that the
  // second one needs a level less; else both products of a term are, once for all.
  bool by_term = false;
  int texts = 1;  // of a program that holds so many (texts.h): rotations go as many times as far

  bool reads_known() const {
    return kind == MatrixKind::kKnownKeys || kind == MatrixKind::kKnownValues;
  }
  bool reads_weights() const { return kind <= MatrixKind::kDown; }
  std::vector<int> Rotations() const {
    std::vector<int> rotations;
    rotations.reserve(static_cast<std::size_t>(terms));
    for (int k = 0; k < terms; ++k) rotations.push_back((first + k) * stride * texts);
    return rotations;
  }
};

// What plaintexts of an operand's level differ by: maps of the same are made and kept once.
using PlaintextKey = std::tuple<int, MatrixKind, bool, double, int, std::array<int, 5>>;
inline PlaintextKey KeyOf(const LinearMap& map, int level) {
  return {map.layer,  map.kind, map.of_tokens,
          map.factor, level,    {map.block, map.first, map.terms, map.stride, map.low}};
}

}  // namespace polyveil::compile
