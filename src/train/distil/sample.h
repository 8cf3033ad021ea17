// Text without data: what a released decoder writes behind a prefix.
#pragma once

#include <vector>

#include "model/client/sampling.h"
#include "model/formats/checkpoint.h"

namespace polyveil::train {

// What a sequence begins with, the prefix included, and how it goes on.
struct SampledSequence {
  std::vector<model::TokenId> opening;
  model::SamplingOptions sampling;
};

// One sequence of `length` tokens behind another, openings included. The same sequences give the
// same text on one machine. Cost: one decode step a token for `rows` sequences side by side.
// Errors: the reference's; kOutOfRange for bad sampling.
Result<std::vector<std::int32_t>> SampleText(const model::Checkpoint& checkpoint,
                                             const std::vector<SampledSequence>& sequences,
                                             int length, int rows);

}  // namespace polyveil::train
