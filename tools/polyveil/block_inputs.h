// Blocks to run: of a checkpoint, or of a shape with random weights.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/import/model_fit.h"
#include "polyveil/plan_model.h"

namespace polyveil::tools {

model::BlockFit ToFit(const BlockDegrees& degrees, double margin);

// The file's beginning, or a few built-in sentences for an empty path. Errors: kNotFound.
Result<std::string> CalibrationText(const std::string& path);

struct BlockRange {
  int first = 0, count = 1;  // layers
};

struct BlockText {
  std::vector<model::Block> blocks;
  std::vector<std::vector<double>> inputs;  // of a text that did not calibrate, without the prefix
  std::string name;
  // What the model's head makes of the last layer's output: the likeliest token's text. Empty where
  // the last layer is not among them.
  std::function<std::string(std::span<const double>)> next_token = {};
};

// Consecutive layers with a converted model's polynomials, or with polynomials fitted on what they
// see of a text (`text`: a file, or empty for a few built-in sentences; random normal values for a
// shape), each behind the polynomials before it. A begin token becomes a prefix.
Result<BlockText> CalibratedLayers(const std::string& what, BlockRange layers, int tokens,
                                   const std::string& text, const BlockDegrees& degrees,
                                   double margin);

}  // namespace polyveil::tools
