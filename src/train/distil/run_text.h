// What a conversion's run reads: its mixture with the original's own text, held-out batches by
// source, and the finds of searches.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/distil/data.h"
#include "train/distil/run.h"
#include "train/run_folder.h"
#include "train/transformer.h"

namespace polyveil::train {

struct RunText {
  std::optional<model::TextTokenizer> tokenizer;  // rows are encoded by it
  DistilText text;
  std::map<std::string, std::vector<Batch>> heldout;

  std::vector<Batch> AllHeldout() const;
};

// Reads the sources. Text that the original writes is kept beside the run (sampled-NAME.bin), with
// a digest (sampled-NAME.sha256) of it and of what it was sampled from: other weights, source,
// seed, prefix or rows sample it anew. Errors: those of ReadDistilText, ChatMarksOf and SampleText.
Status LoadRunText(const DistilConfig& config, const DistilRunOptions& options,
                   const RunFolder& folder,
                   const std::shared_ptr<const model::Checkpoint>& checkpoint,
                   const std::string& weights_sha256, RunText& out);

// Looks for inputs that leave the model's intervals (search.h), the constant prefix before each:
// STAGE.search.json and STAGE.found.bin, whose rows `text` has then too. Returns the counts.
Result<nlohmann::ordered_json> SearchStage(const Transformer& model, const DistilSearch& search,
                                           const std::string& stage, const RunFolder& folder,
                                           int threads, RunText& text);
// The finds of a finished stage, where it searched.
Status LoadFound(const std::string& stage, const RunFolder& folder, RunText& text);

}  // namespace polyveil::train
