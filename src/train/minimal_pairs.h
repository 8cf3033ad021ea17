// Minimal pairs: of two sentences that differ in little, a model should find the right one
// likelier.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/client/tokenizer.h"
#include "train/transformer.h"

namespace polyveil::train {

struct PairSet {
  std::string name;
  std::vector<std::pair<std::string, std::string>> pairs;  // right, wrong
};

// Every *.jsonl of a folder in the form of docs/formats/evaluation-data.md ({"good", "bad"} a
// line), sorted by name, each cut to its first `limit` pairs. Errors: kNotFound without a set,
// kCorrupt names file and line.
Result<std::vector<PairSet>> LoadPairSets(const std::string& folder, int limit);

// The share of pairs whose right sentence has the larger log-probability behind the end mark.
// Sentences longer than the context are cut.
double PairAccuracy(const Transformer& model, const model::Tokenizer& tokenizer,
                    const PairSet& set);

}  // namespace polyveil::train
