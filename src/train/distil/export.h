// A conversion's output folder: what polyveil import and eval read.
// docs/formats/converted-model.md.
#pragma once

#include <string>

#include "model/formats/checkpoint.h"
#include "train/calibrate.h"

namespace polyveil::train {

// What forms.json says of a model. ranges: of every site over calibration text, for a model with
// polynomials; `tokens` of it.
struct DistilCalibration {
  SiteRanges ranges;
  std::uint64_t tokens = 0;
  double margin = 1;
  std::uint64_t left_out = 0;  // calibration tokens behind an input out of range
};
model::ConvertedForms MakeForms(const Transformer& model, const std::vector<int>& prefix,
                                const DistilCalibration& calibration);

// Writes the folder's forms.json. Errors: kIo; those of CheckForms and ParseForms.
Status WriteForms(const model::ConvertedForms& forms, const model::Architecture& architecture,
                  const std::string& folder);

// Weights under the names of Hugging Face's files, in their layouts.
std::vector<std::pair<std::string, torch::Tensor>> HuggingFaceTensors(
    const Transformer& model, const model::Architecture& source);

// Writes config.json, model.safetensors (float32), the source's tokenizer and, unless the model is
// softmax, forms.json. Errors: kIo; kMismatch for a GGUF file of a family whose config.json cannot
// be written or with frequencies of its own.
Status WriteReleasedFolder(const Transformer& model, const model::Checkpoint& source,
                           const std::vector<int>& prefix, const DistilCalibration& calibration,
                           const std::string& folder);

}  // namespace polyveil::train
