// What `plan` compiles: a decoder with polynomials of its own, or one that is described alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/command_line.h"
#include "model/decoder.h"

namespace polyveil::tools {

// Of polynomials that are not there yet.
struct BlockDegrees {
  int norm = 7, divisor = 15, activation = 15;
};
void AddDegrees(Options& app, BlockDegrees& degrees);

struct PlannedModel {
  std::shared_ptr<const model::Decoder> decoder;
  std::int64_t parameters = 0;  // with embedding and head; 0: not counted
  bool nominal = false;         // polynomials of BlockDegrees, none of its own
};

// what: a bundle, a folder or *.gguf of a released model, or the name of a known shape. A model
// that is still softmax gets nominal polynomials: nothing of its weights but biases is read.
// context: 0 for the usual one. Errors: those of LoadDecoder and LoadCheckpoint, kNotFound (the
// known shapes named).
Result<PlannedModel> LoadPlanned(const std::string& what, int context, const BlockDegrees& degrees);

}  // namespace polyveil::tools
