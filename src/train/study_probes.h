// What a trained model's attention does: statistics of its weights by layer and head, in-context
// tasks, sensitivity to length and to the scale of scores, ranges of what would be approximated.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "train/dataset.h"
#include "train/study_tasks.h"
#include "train/transformer.h"

namespace polyveil::train {

// Means over positions >= 8 of held-out text; rows of weights are scaled to sum 1 first, so that
// forms that do not normalise compare.
struct HeadStatistics {
  double entropy = 0;    // nats over log n: 1 is uniform
  double sparsity = 0;   // share of keys with less than a tenth of the uniform weight
  double distance = 0;   // mean attended distance in tokens
  double diagonal = 0;   // weight on the token itself
  double previous = 0;   // weight on the one before
  double induction = 0;  // on repeated random text: weight on what followed the last occurrence
};
struct AttentionStatistics {
  int n_layers = 0, n_heads = 0;
  std::vector<HeadStatistics> heads;  // layer-major
};
AttentionStatistics MeasureAttention(const Transformer& model, const std::vector<Batch>& text,
                                     const TaskAlphabet& alphabet);

// Share of predictable positions whose argmax is right; sequences of the model's context.
double TaskAccuracy(const Transformer& model, Task task, const TaskAlphabet& alphabet,
                    int sequences, std::uint64_t seed);

// Smallest and largest value of what a division or a root reads, whole and between the 0.1%
// and 99.9% quantiles, the widest ratio of all layers (divisors: within a head).
struct RangeStatistics {
  double divisor_ratio = 0, divisor_ratio_trimmed = 0;  // 0: no divisor
  double variance_ratio = 0, variance_ratio_trimmed = 0;
  double largest_score = 0;
};
RangeStatistics MeasureRanges(const Transformer& model, const std::vector<Batch>& text);

// Nats per token of text by position: means over [0, 8), [8, 16), [16, 32), ... up to the context.
std::vector<double> NatsByPosition(const Transformer& model, const std::vector<Batch>& text);

// Nats per token with every query multiplied by each factor (the shift stays).
std::vector<double> NatsByScoreScale(const Transformer& model, const std::vector<Batch>& text,
                                     const std::vector<double>& factors);

// Levels of one layer's longest path in compile/lower_block.h's program; tested against it.
int BlockLevels(const Shape& shape, AttentionForm form, int layer, const LayerPolynomials& fits);

nlohmann::ordered_json ToJson(const AttentionStatistics& statistics);
nlohmann::ordered_json ToJson(const RangeStatistics& ranges);

}  // namespace polyveil::train
