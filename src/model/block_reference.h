// A polynomial block in float64, one token at a time, and what it sees: the comparison for the
// encrypted program and the source of its ranges.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "approx/range.h"
#include "model/block.h"
#include "model/reference.h"

namespace polyveil::model {

// What a block's functions saw.
struct BlockRanges {
  approx::Range norm1, norm2, divisor, activation;
  LayerBounds bounds;
  std::vector<double> score;     // by head: largest |q . k|
  std::vector<double> log_mean;  // by head: sum over tokens of the log of N kappa times the divisor
  int tokens = 0;
};

class BlockReference {
 public:
  // The block and its weights are kept; `evaluation` as ReferenceModel's.
  BlockReference(const Block& block, Evaluation evaluation);

  // One token of a text: d_model values in, d_model out; appends to the cache. Errors: kMismatch.
  Result<std::vector<double>> Step(std::span<const double> x);
  void Reset();                               // forgets the text but for the prefix; ranges stay
  int position() const { return position_; }  // the prefix included
  const std::vector<double>& keys() const { return keys_; }  // [position, kv_width]
  const std::vector<double>& values() const { return values_; }
  const BlockRanges& ranges() const { return ranges_; }

 private:
  std::vector<double> Attention(const std::vector<double>& x, double root);
  void AttendHead(int head, std::span<const double> query, std::span<double> out);
  std::vector<double> FeedForward(const std::vector<double>& x, double root);
  double InverseRoot(std::span<const double> x, const Approximant& p, approx::Range& seen);

  const Block block_;
  const std::shared_ptr<const BlockWeights> w_;
  const bool exact_;
  std::vector<double> keys_, values_;  // position x kv_width
  int position_ = 0;
  BlockRanges ranges_;
};

}  // namespace polyveil::model
