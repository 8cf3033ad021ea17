// Blocks to compile: of a checkpoint, or of a shape with random weights.
#pragma once

#include <string>
#include <vector>

#include "model/block.h"

namespace polyveil::tools {

struct BlockDegrees {
  int norm = 7, divisor = 15, activation = 15;
};

struct BlockModel {
  std::string name;
  std::vector<model::Block> blocks;  // every layer, nominal forms
  std::int64_t parameters = 0;
};

// what: the name of a known shape, or a folder or *.gguf file. Errors: those of LoadCheckpoint,
// kNotFound when it is neither.
Result<BlockModel> DescribeBlocks(const std::string& what, const BlockDegrees& degrees);

struct BlockText {
  model::Block block;                        // one layer, calibrated
  std::vector<std::vector<double>> inputs;   // of a text that did not calibrate, without the prefix
  std::string name;
};

// The layer with polynomials fitted on what it sees of a text (`text`: a file, or empty for a few
// built-in sentences; random normal values for a shape). A checkpoint's begin token becomes a prefix.
Result<BlockText> CalibratedLayer(const std::string& what, int layer, int tokens,
                                  const std::string& text, const BlockDegrees& degrees,
                                  double margin);

}  // namespace polyveil::tools
