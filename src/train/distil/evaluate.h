// What a stage's folder is worth: perplexity and tasks of a decoder, sentences of an encoder, by
// the float32 reference in the form that the folder states.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/distil/config.h"

namespace polyveil::train {

// data: a folder like shared evaluation data (wikitext2-valid.txt, piqa.jsonl, ...); empty: nothing
// is scored. Errors: the scorer's, kNotFound.
Result<nlohmann::ordered_json> EvaluateDecoder(const std::string& folder, const std::string& data,
                                               const DistilEvaluation& options);

// Mean cosine of a sentence's embedding (mean over its tokens) with the original's, and Spearman's
// correlation of the cosines of all pairs of sentences, the original's against the folder's.
Result<nlohmann::ordered_json> EvaluateEncoder(const std::string& original,
                                               const std::string& folder,
                                               const std::vector<std::string>& sentences,
                                               int longest);

}  // namespace polyveil::train
