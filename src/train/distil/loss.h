// What a conversion minimises, and what held-out text says of it.
#pragma once

#include <vector>

#include "train/distil/config.h"
#include "train/transformer.h"

namespace polyveil::train {

struct DistilLoss {
  double total = 0;         // without the penalty
  double kl = 0, text = 0;  // nats a token, decoders
  double pooled = 0;        // 1 - cosine of the means over a row's tokens, encoders
  double hidden = 0;        // mean |difference|^2 / |original|^2
  double penalty = 0;

  void Add(const DistilLoss& other);
  DistilLoss Over(double count) const;
};

// Adds the gradients of one batch to the student's trainable tensors. Match: one layer's graph
// stands in memory at a time.
DistilLoss MatchAndBackward(const Transformer& teacher, const Transformer& student,
                            const Batch& batch, const DistilStage& stage);
DistilLoss DistilAndBackward(const Transformer& teacher, const Transformer& student,
                             const Batch& batch, const DistilStage& stage);

// Without gradients, means over the batches: KL and text of a decoder, `hidden` of the last
// states.
DistilLoss HeldoutLoss(const Transformer& teacher, const Transformer& student,
                       const std::vector<Batch>& batches);

}  // namespace polyveil::train
