// One transformer block as a polynomial: pre-norm (Llama, GPT-2, the embedded model), parallel
// (GPT-NeoX) or post-norm (BERT), grouped queries with rotary positions, attention of any form
// (attention_form.h), a feed-forward of any width, gated, bilinear or plain. What the block program
// computes and what it is compared with.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/bundle.h"
#include "model/config.h"

namespace polyveil::model {

// kIdentity: of a gated feed-forward, which is bilinear then.
enum class BlockActivation { kSilu, kGelu, kGeluTanh, kIdentity };
double Activate(BlockActivation activation, double x);

struct BlockShape {
  int d_model = 0, n_heads = 0, n_kv_heads = 0, d_head = 0, d_ff = 0;
  bool gated = false;     // down(act(gate x) * up x), else down(act(up x))
  bool parallel = false;  // x + attention(norm1 x) + ffn(norm2 x), else one after the other
  bool causal = true;     // else every token sees every one of its text
  // n' = norm1(C gain_in n + attention(n)), then norm2(C gain_mid n' + ffn(n')): what blocks hand
  // on is normalised, without the norm's gain and bias, which stand in the matrices that read it;
  // C takes the mean out.
  bool post_norm = false;
  bool norm_outside = false;  // of post_norm: norm2 is the client's, the result what it reads
  // LayerNorm: every writer of the residual has its mean removed, so that the norm divides by the
  // root mean square alone; results differ from the original's residual by its mean, which every
  // reader removes.
  bool centred = false;
  bool biases = false;
  BlockActivation activation = BlockActivation::kSilu;
  double norm_eps = 1e-5;
  int power = 4;  // of heads whose attention form has no own powers
  double attention_eps = 1e-3;
  // Rotary embedding: pair i of a head turns by position * frequencies[i]; pairs are (i, i + n) or
  // (2 i, 2 i + 1), n the number of frequencies. Empty: none.
  std::vector<double> rotary;
  bool adjacent_pairs = false;

  // down((gate x) * (up x)) of the raw residual x, scaled afterwards by norm2 ~ 1/(v + norm_eps).
  bool bilinear() const { return gated && activation == BlockActivation::kIdentity; }
  int q_width() const { return n_heads * d_head; }
  int kv_width() const { return n_kv_heads * d_head; }
  // Index of the head whose keys and values head h reads.
  int KvHead(int h) const { return h / (n_heads / n_kv_heads); }
  std::int64_t parameters() const;
};

// Empty without biases.
struct BlockBiases {
  std::vector<double> bq, bk, bv, bo, b_gate, b_up, b_down;
  std::vector<double> gain_in, gain_mid;  // of post-norm blocks
};

// Norm gains, their biases' images and 1/sqrt(d_head) folded in.
struct BlockWeights : BlockBiases {
  Matrix wq, wk, wv, wo;  // [q_width or kv_width, d_model]; wo [d_model, q_width]
  Matrix gate, up, down;  // [d_ff, d_model], gate empty unless gated; down [d_model, d_ff]
};

// The parts of a block's weights that are read apart, as bits.
enum WeightParts : unsigned {
  kQkvWeights = 1,
  kProjectionWeights = 2,
  kHiddenWeights = 4,  // gate and up
  kDownWeights = 8,
  kAllWeights = 15
};

// Where a block's weights come from. Thread-safe.
class BlockWeightSource {
 public:
  virtual ~BlockWeightSource() = default;
  // At least these parts with their biases. Nothing is kept that was not in memory before.
  virtual std::shared_ptr<const BlockWeights> Load(unsigned parts = kAllWeights) const = 0;
  // Empty without biases. Stay in memory from the first call on: a program is lowered without
  // loading weights.
  virtual std::shared_ptr<const BlockBiases> Biases() const;

 private:
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const BlockBiases> biases_;
};

// Weights that stay in memory.
class KeptWeights final : public BlockWeightSource {
 public:
  explicit KeptWeights(BlockWeights weights)
      : weights_(std::make_shared<const BlockWeights>(std::move(weights))) {}
  std::shared_ptr<const BlockWeights> Load(unsigned) const override { return weights_; }
  std::shared_ptr<const BlockBiases> Biases() const override { return weights_; }

 private:
  const std::shared_ptr<const BlockWeights> weights_;
};

// forms: norm1 and norm2 ~ 1/sqrt(v + norm_eps) (a parallel block uses norm1 for both; a post-norm
// one has them behind attention and feed-forward; norm2 of a bilinear one ~ 1/(v + norm_eps)),
// activation (none of a bilinear one), divisor_inverse, kappa and shift by head, attention, bounds.
struct Block {
  BlockShape shape;
  LayerConfig forms;
  std::shared_ptr<const BlockWeightSource> weights;
  // Keys and values of constant tokens before every text, [prefix, kv_width] each: they depend on
  // nothing secret, so they enter as plaintexts. Positions count from the first of them.
  std::vector<double> prefix_keys, prefix_values;

  int prefix() const { return static_cast<int>(prefix_keys.size()) / shape.kv_width(); }
  int power(int head) const {
    const auto& powers = forms.attention.powers;
    return powers.empty() ? shape.power : powers[static_cast<std::size_t>(head)];
  }
};

// Refuses shapes that no block has: sizes below 1, heads that do not divide, odd powers, a bilinear
// feed-forward with biases or beside attention, forms that ValidateLayer refuses. Errors:
// kOutOfRange, kMismatch (field, both values); `where` names the block.
Status ValidateBlock(const Block& block, const std::string& where);

// Every field that a block's programs depend on, for digests.
std::string DescribeShape(const BlockShape& shape);

void RemoveMean(std::vector<double>& x);
// What the matrix and its bias (which may be empty) write has mean zero afterwards.
void RemoveMean(Matrix& w, std::vector<double>& bias);

// Normal weights of standard deviation 1/sqrt(columns): a shape without a checkpoint.
BlockWeights RandomBlockWeights(const BlockShape& shape, std::uint64_t seed);

// The same, made whenever they are asked for.
class RandomWeights final : public BlockWeightSource {
 public:
  RandomWeights(BlockShape shape, std::uint64_t seed) : shape_(std::move(shape)), seed_(seed) {}
  std::shared_ptr<const BlockWeights> Load(unsigned) const override {
    return std::make_shared<const BlockWeights>(RandomBlockWeights(shape_, seed_));
  }

 private:
  const BlockShape shape_;
  const std::uint64_t seed_;
};

// The turn of a rotary position: rows of every head, as the token at `position` sees them. values:
// [heads * d_head, cols], in place.
void RotateRows(const BlockShape& shape, int position, std::span<double> values, int cols);

// The same of one element of a head: it becomes own times itself plus other times its partner.
struct Turn {
  double own = 1, other = 0;
  int partner = 0;
};
Turn TurnOf(const BlockShape& shape, int position, int element);

}  // namespace polyveil::model
