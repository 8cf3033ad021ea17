// A training run, complete: the same config, seed, data, machine and threads give the same weights.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/block_kinds.h"
#include "model/config.h"

namespace polyveil::train {

enum class AttentionForm {
  kSoftmax,
  kPowerMean,    // (s + c)^p / (kappa n) over eps + its sum: what the encrypted program evaluates
  kPowerStable,  // the same function by row-maximum scaling: no overflow however large the scores
  kPointwise,    // (s + c)^p / (kappa n), not normalised over the keys; kappa learns the scale
};

// Of the matrix products of a training step: everything else, and every evaluation, is float32 (or
// float64 in a float64 run).
enum class Precision {
  kFloat32,
  kBf16,  // operands of the blocks' linear layers, the head and Muon's products in bfloat16
};

struct Shape {
  int n_layers = 4;
  int d_model = 128;
  int n_heads = 4;
  int d_ff = 256;
  model::FeedForwardKind ffn = model::FeedForwardKind::kBilinear;
  int vocab_size = 4096;
  int context = 128;
  int power = 4;
  double attention_eps = 1e-3;
  double norm_eps = 1e-5;
  // Choices of single layers (model/attention_form.h); empty: the run's form and `power`
  // everywhere.
  std::vector<AttentionForm> layer_attention{};
  std::vector<std::vector<int>> layer_powers{};  // by layer: one power, or one a head
  bool length_agnostic = true;                   // n of the mean form is the number of keys, else 1
  bool shifted = true;                           // c learnt per head from shift_start, else c = 0
  double shift_start = 2;
  bool qk_norm = false;
  // Rows of the tables whose entries for the last 2, 3, .. tokens the embedding adds
  // (model/ngram.h); empty: none. No entry where fewer tokens stand before.
  std::vector<int> ngram_rows{};

  // What released models have beside that; no fields of a run's config.
  int n_kv_heads = 0;  // 0: n_heads
  int head_width = 0;  // 0: d_model / n_heads
  model::NormKind norm = model::NormKind::kRmsNorm;
  model::BlockForm block = model::BlockForm::kPreNorm;
  model::Activation activation = model::Activation::kGelu;  // of a feed-forward that has one
  bool gated = false;                                       // down(activation(gate x) * up x)
  bool causal = true;
  bool predicts = true;                // logits over the vocabulary; else hidden states only
  int position_offset = 0;             // of the learnt positions
  std::optional<int> padding_token{};  // stands at the position of its own id
  int prefix = 0;  // first positions: exact in every stage and outside of every range

  bool bilinear() const { return ffn == model::FeedForwardKind::kBilinear; }
  int kv_heads() const { return n_kv_heads > 0 ? n_kv_heads : n_heads; }
  int d_head() const { return head_width > 0 ? head_width : d_model / n_heads; }
  int q_width() const { return n_heads * d_head(); }
  int kv_width() const { return kv_heads() * d_head(); }
  std::vector<int> HeadPowers(int layer) const;  // one a head
  double QueryFold() const;  // what wq takes of 1/sqrt(d_head): a norm would divide it out
};

// Penalties on the inputs of non-polynomials: hinges on |log x - centre| beyond log window,
// squared. weight multiplies the mean over all inputs, peak_weight the worst input of each site in
// the batch.
struct HingeOptions {
  double weight = 0;
  double peak_weight = 0;
  double window = 4;       // ratio to the centre that costs nothing; the range aimed at is window^2
  bool one_sided = false;  // above the centre alone
  double reach = 1;        // how far intervals go beyond what is aimed at (divisor_reach); no field
};

struct RangeOptions {
  HingeOptions divisor;
  HingeOptions variance;
  HingeOptions residual;    // window: limit of |x| itself
  HingeOptions activation;  // GELU inputs; window: limit of |x|
  // With polynomials in place the divisors' and variances' hinges begin at their intervals shrunk
  // by this ratio at both ends, whatever their windows say; 0 keeps the windows.
  double interval_margin = 0;
};

// Low degrees are far off at first and move the later layers' inputs out of their intervals. For
// `fraction` of the steps the polynomials' inputs are clamped: to the intervals in its first half,
// then to intervals that widen (by `widening` at the end). The rest runs without, as inference
// does.
struct ClampOptions {
  double fraction = 0;
  double widening = 1.5;
};

// The polynomial stage: fits on ranges seen in training, then training through them.
struct PolynomialOptions {
  int norm1_degree = 7;
  int divisor_degree = 7;
  int norm2_degree = 7;
  int activation_degree = 15;
  double margin = 1.5;  // interval = seen range stretched by this ratio at both ends
  int calibration_batches = 40;
  ClampOptions clamp{};
  // Share of the rows, of calibration and of training, that are random tokens whose predictions do
  // not count: intervals and hinges then hold for whatever may be asked, not for the corpus alone.
  double random_rows = 0;
  // Share of the rows of a training batch that are hard inputs (hard_inputs.h): the worst of
  // hard_candidates drawn a row, among them the finds of searches (hard_files: reports, relative to
  // the runs' folder), half of them made worse by exchanged tokens. The polynomials' inputs are
  // then clamped in every step: text lies inside, and what lies outside is the hinges' to draw in.
  double hard_rows = 0;
  int hard_candidates = 8;
  std::vector<std::string> hard_files{};
  // An interval that is narrower than this (largest / smallest) is stretched on to it: a model that
  // is trained through its polynomials pays the same levels and little else. 0: margin alone.
  double divisor_ratio = 0;
  double variance_ratio = 0;
  // Divisors' inverses are as near to 1/y as their degree allows in the middle of the interval,
  // over this ratio, and bounded and positive to its ends: an input that comes far does no harm
  // there. 0: the same relative error from end to end.
  double divisor_inner = 0;
  // The divisors' intervals begin at 0, an end that no sum of even powers passes: the inverse is of
  // attention_eps + y, so that a large attention_eps keeps the degree low.
  bool divisor_from_zero = false;
  // The divisors' intervals go this many times further at their high end, the one behind which
  // values grow; hinges stay where they were.
  double divisor_reach = 1;
  // After this part of the steps the intervals are laid anew, around what the hinges have made of
  // the ranges until then; 0: the first ones stay.
  double refit_fraction = 0;
};

// The loss against a teacher's distribution in the place of a part of the text's own.
struct DistillationOptions {
  std::string teacher;  // checkpoint, relative to the runs' folder; same vocabulary
  double weight = 0.5;
};

// How the rates go: warm-up, constant, and in the last part of the steps a linear fall to
// final_fraction.
struct Schedule {
  int warmup = 40;
  double decay_fraction = 0.6;
  double final_fraction = 0.02;
};

struct OptimizerOptions : Schedule {
  double muon_lr = 0.02;
  double adam_lr = 0.003;
  double weight_decay = 0.1;  // decoupled, times the rate; matrices only
  double ngram_decay = 0;     // the same for the tables of n-grams
  double grad_clip = 1.0;
};

// Steps from one line of the curve, evaluation or checkpoint to the next; 0: at the end only.
struct Intervals {
  int log_every = 20;
  int eval_every = 0;
  int checkpoint_every = 200;
};
inline bool IsDue(int every, std::int64_t step) { return every > 0 && step % every == 0; }

struct TrainConfig : Intervals {
  std::string name = "run";
  std::uint64_t seed = 1;
  int threads = 2;
  bool float64 = false;
  Precision precision = Precision::kFloat32;
  Shape shape;
  AttentionForm attention = AttentionForm::kPowerMean;
  int batch = 32;
  int accumulate = 1;  // batches whose gradients are averaged in one step
  std::int64_t steps = 1000;
  OptimizerOptions optimizer;
  RangeOptions range;
  std::optional<PolynomialOptions> polynomial;
  std::optional<DistillationOptions> distillation;
  double ngram_dropout = 0;  // chance that a training position goes without its n-grams
  std::map<std::string, double> source_weights;
  // Checkpoint or bundle's folder to start from (weights and polynomials), relative to the runs'
  // folder.
  std::string init_from;
};

// That weights name sources and leave one to draw. own: every source's where `weights` has none for
// it. Errors: kOutOfRange, kMismatch, kInvalidArgument; `where` begins the message.
Status CheckSourceWeights(const std::string& where, const std::map<std::string, double>& weights,
                          const std::map<std::string, double>& own);

// Unknown fields are refused, so that a misspelt one cannot pass for a default.
Result<TrainConfig> ParseTrainConfig(std::string_view json);
std::string FormatTrainConfig(const TrainConfig& config);

}  // namespace polyveil::train
