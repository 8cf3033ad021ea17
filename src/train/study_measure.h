// What a study measures of one trained model, as the JSON that its page is made from.
#pragma once

#include <nlohmann/json.hpp>

#include "train/study.h"
#include "train/trainer.h"

namespace polyveil::train {

// Held-out perplexity, attention, tasks, ranges, sensitivity, minimal pairs, conversions.
Result<nlohmann::ordered_json> AnalyseRun(const StudyConfig& study, const StudyOptions& options,
                                          const StudyVariant& variant, const TrainSummary& summary,
                                          const Dataset& data);

// Of a run with polynomials: perplexity, tasks, minimal pairs, levels a block, the effect of the
// polynomials against the same weights with exact functions, and on more than ten times the
// held-out text's tokens every escape and each interval's margins.
Result<nlohmann::ordered_json> AnalysePolynomial(const StudyConfig& study,
                                                 const StudyOptions& options,
                                                 const TrainSummary& summary, const Dataset& data);

}  // namespace polyveil::train
