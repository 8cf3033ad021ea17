// Checkpoints: weights, optimiser state, polynomials and position of a run in one file, atomically.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/optimizer.h"
#include "train/transformer.h"

namespace polyveil::train {

struct CheckpointInfo {
  std::int64_t step = 0;     // steps done
  double seconds = 0;        // training time so far, without evaluations
  std::uint64_t tokens = 0;  // seen by this run and those it started from
  std::string config;        // FormatTrainConfig of the run
};

// Written to path + ".new", then renamed. optimizer may be null (weights only).
Status SaveCheckpoint(const std::string& path, const Transformer& model, const Optimizer* optimizer,
                      const CheckpointInfo& info);

// Copies values into model (and optimizer when not null); names and shapes must agree.
// Errors: kNotFound, kCorrupt, kMismatch (tensor, both shapes).
Result<CheckpointInfo> LoadCheckpoint(const std::string& path, Transformer& model,
                                      Optimizer* optimizer);

// The info alone: which config to build a model from.
Result<CheckpointInfo> ReadCheckpointInfo(const std::string& path);

// Polynomials by layer as checkpoints hold them; an empty list for none.
nlohmann::ordered_json PolynomialsToJson(
    const std::optional<std::vector<LayerPolynomials>>& polynomials);
Result<std::optional<std::vector<LayerPolynomials>>> PolynomialsFromJson(
    const nlohmann::ordered_json& json);

}  // namespace polyveil::train
