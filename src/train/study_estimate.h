// How long a study will take on this machine.
#pragma once

#include "train/study.h"

namespace polyveil::train {

struct StudyEstimate {
  double training_hours = 0, analysis_hours = 0;
};

// Times a step and a forward pass of the first variant on random tokens (a second or so) and scales
// both to every run's work. heldout_tokens: of the prepared data; 0 where it is not known yet.
// Errors: those of the variants' configs.
Result<StudyEstimate> EstimateStudy(const StudyConfig& study, std::uint64_t heldout_tokens);

}  // namespace polyveil::train
