// What a conversion minimises, and what held-out text says of it.
#pragma once

#include <vector>

#include "train/convert.h"
#include "train/distil/config.h"
#include "train/distil/released_model.h"

namespace polyveil::train {

struct DistilLoss {
  double total = 0;         // without the penalty
  double kl = 0, text = 0;  // nats a token, decoders
  double hidden = 0;        // mean |difference|^2 / |original|^2
  double penalty = 0;

  void Add(const DistilLoss& other);
  DistilLoss Over(double count) const;
};

// Adds the gradients of one batch to the student's trainable tensors. Match: one layer's graph
// stands in memory at a time.
DistilLoss MatchAndBackward(const ReleasedModel& teacher, const ReleasedModel& student,
                            const Batch& batch, const DistilStage& stage);
DistilLoss DistilAndBackward(const ReleasedModel& teacher, const ReleasedModel& student,
                             const Batch& batch, const DistilStage& stage);

// Without gradients, means over the batches: KL and text of a decoder, `hidden` of the last
// states.
DistilLoss HeldoutLoss(const ReleasedModel& teacher, const ReleasedModel& student,
                       const std::vector<Batch>& batches);

// The polynomials against the same weights with exact functions; of an encoder the escapes alone.
ConversionEffect DistilEffect(const ReleasedModel& model, const std::vector<Batch>& batches);

}  // namespace polyveil::train
