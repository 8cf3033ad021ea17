// What a conversion minimises, and what held-out text says of it.
#pragma once

#include <vector>

#include "train/convert.h"
#include "train/hub/hub_config.h"
#include "train/hub/hub_model.h"

namespace polyveil::train {

struct HubLoss {
  double total = 0;         // without the penalty
  double kl = 0, text = 0;  // nats a token, decoders
  double hidden = 0;        // mean |difference|^2 / |original|^2
  double penalty = 0;

  void Add(const HubLoss& other);
  HubLoss Over(double count) const;
};

// Adds the gradients of one batch to the student's trainable tensors. Match: one layer's graph
// stands in memory at a time.
HubLoss MatchAndBackward(const HubModel& teacher, const HubModel& student, const Batch& batch,
                         const HubStage& stage);
HubLoss DistilAndBackward(const HubModel& teacher, const HubModel& student, const Batch& batch,
                          const HubStage& stage);

// Without gradients, means over the batches: KL and text of a decoder, `hidden` of the last
// states.
HubLoss HeldoutLoss(const HubModel& teacher, const HubModel& student,
                    const std::vector<Batch>& batches);

// The polynomials against the same weights with exact functions; of an encoder the escapes alone.
ConversionEffect HubEffect(const HubModel& model, const std::vector<Batch>& batches);

}  // namespace polyveil::train
