// Text without data: what a released decoder writes behind a prefix.
#pragma once

#include <vector>

#include "model/formats/checkpoint.h"
#include "train/distil/config.h"

namespace polyveil::train {

// `length` tokens a sequence, one sequence after another; the prefix is not among them. The same
// (seed, sampling) gives the same text on one machine. Cost: one decode step a token for
// sampling.rows sequences side by side. Errors: the reference's; kOutOfRange for bad sampling.
Result<std::vector<std::int32_t>> SampleText(const model::Checkpoint& checkpoint,
                                             const std::vector<int>& prefix, int length,
                                             const DistilSampling& sampling, std::uint64_t seed);

}  // namespace polyveil::train
