// A released checkpoint as the trainable model.
#pragma once

#include "model/formats/checkpoint.h"
#include "train/transformer.h"

namespace polyveil::train {

// Softmax, all weights widened to float32 (or float64). Rotary pairs become halves, query, key and
// value columns blocks, whatever the file has. prefix: Shape::prefix. Errors: kMismatch for a
// classifier.
Result<Transformer> LoadReleased(const model::Checkpoint& checkpoint, int prefix = 0,
                                 torch::ScalarType type = torch::kFloat32);

}  // namespace polyveil::train
