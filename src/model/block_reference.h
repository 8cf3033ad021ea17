// A polynomial block in float64, one token or a text at a time, and what it sees: the comparison
// for the encrypted program and the source of its ranges.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "approx/range.h"
#include "model/block.h"

namespace polyveil::model {

// Exact non-polynomials instead of the stored polynomials: the parent model, for comparisons.
enum class Evaluation { kPolynomial, kExact };

// Called with every intermediate value of a block. Names are the block's own, then
// "attention / X" and "feed-forward / X" with, in order,
//   attention:    input, variance (1), inverse root (1), query, key, value (by head, turned and
//                 normalised),
//                 scores (heads x keys, shift added), powers (heads x keys, (s + c)^p / (kappa n)),
//                 divisor (heads), divisor inverse (heads), weights (heads x keys), head output,
//                 projection, residual
//   feed-forward: variance (1), scale (1), hidden 1, hidden 2 (bilinear: raw; gated: gate and up;
//                 plain: hidden 1 only, scaled),
//                 product, down (W_down product), output, residual
// head-major, keys 0 .. position. A parallel block has one norm and one residual, the last one. A
// post-norm block's norms read its residuals.
// Values live until the call returns.
using Observer = std::function<void(const std::string& name, std::span<const double> values)>;

// Inputs outside a polynomial's [a, b], by site "layer 2 / attention / divisor".
struct EscapeCount {
  std::uint64_t evaluations = 0;
  std::uint64_t escapes = 0;
  std::uint64_t not_finite = 0;
  double worst_ratio = 1;  // how far beyond, as a ratio
  approx::Range seen;      // inputs
};

// What a block's values reach beside the inputs of its functions.
struct BlockRanges {
  LayerBounds bounds;
  std::vector<double> mid_channels, out_channels;  // largest |x_c| of the residual, by channel
  std::vector<double> score;                       // by head: largest |q . k|
  std::vector<double> log_mean;  // by head: sum over tokens of the log of N kappa times the divisor
  int tokens = 0;
};

class BlockReference {
 public:
  // name: of the block, in front of its sites: "layer 2 / ".
  BlockReference(const Block& block, Evaluation evaluation, std::string name = {});

  // One token of a text: d_model values in, d_model out; appends to the cache. Loads the weights
  // and keeps them. Errors: kMismatch, kInvalidArgument for a bidirectional block.
  Result<std::vector<double>> Step(std::span<const double> x);
  // A whole text from its beginning on: [token][d_model] in and out. Errors: kMismatch.
  Result<std::vector<std::vector<double>>> Read(std::span<const std::vector<double>> text);
  void Reset();           // forgets the text but for the prefix; ranges and counts stay
  void ReleaseWeights();  // until the next step
  int position() const { return position_; }                 // the prefix included
  const std::vector<double>& keys() const { return keys_; }  // [position, kv_width]
  const std::vector<double>& values() const { return values_; }
  const BlockRanges& ranges() const { return ranges_; }
  const std::map<std::string, EscapeCount>& escapes() const { return escapes_; }
  // The site where the first NaN or infinity was read; empty when none was.
  const std::string& first_not_finite() const { return first_not_finite_; }
  void set_observer(Observer observer) { observer_ = std::move(observer); }

 private:
  struct HeadTrace;
  // A token whose key and value are in the cache.
  struct Projected {
    std::vector<double> x;
    double variance = 0, root = 1;  // of the norm in front
    std::vector<double> q, k, v;
  };

  Result<Projected> Project(std::span<const double> input);
  // What the token becomes, which sees all keys of the cache.
  std::vector<double> Finish(const Projected& token);
  std::vector<double> FinishPostNorm(const Projected& token);
  // x times the gain, without its mean, and `update`; normalised by the block's first norm or its
  // second one.
  std::vector<double> AddNormalised(bool first, const std::vector<double>& x,
                                    const std::vector<double>& update);
  std::vector<double> Attention(const Projected& token);
  void NormaliseHeads(std::vector<double>& x, int heads, bool query);
  void AttendHead(int head, std::span<const double> query, HeadTrace& trace);
  // The summands u_k of one head, or of normalise-square its weights, from the scores.
  std::vector<double> Summands(int head, std::span<const double> scores);
  void Round(const Approximant& root, double keys, std::vector<double>& weights);
  std::vector<double> FeedForward(const std::vector<double>& x, double root);
  std::vector<double> Hidden(const std::vector<double>& x, double root);
  double InverseRoot(const char* site, const Approximant& p, double mean);
  double Apply(const char* site, const Approximant& p, double x, double exact);
  void Observe(const char* what, std::span<const double> values) const;

  const Block block_;
  const bool exact_;
  const std::string name_;
  std::shared_ptr<const BlockWeights> w_;  // from the first step on
  std::vector<double> keys_, values_;      // position x kv_width
  int position_ = 0;
  BlockRanges ranges_;
  std::map<std::string, EscapeCount> escapes_;
  std::string first_not_finite_;
  Observer observer_;
};

}  // namespace polyveil::model
