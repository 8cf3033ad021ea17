// A released checkpoint as the trainable model.
#pragma once

#include "model/formats/checkpoint.h"
#include "train/transformer.h"

namespace polyveil::train {

// Softmax, all weights widened to float32 (or float64), the blocks' matrices, layer by layer, to
// `matrices` where it is given. Rotary pairs become halves, query, key and value columns blocks,
// whatever the file has. prefix: Shape::prefix. Errors: kMismatch for a classifier.
Result<Transformer> LoadReleased(const model::Checkpoint& checkpoint, int prefix = 0,
                                 torch::ScalarType type = torch::kFloat32,
                                 std::optional<torch::ScalarType> matrices = {});

// [rows of queries, keys and values]: the file's row (a fused file's column) of each of theirs.
torch::Tensor QkvRowsInFile(const model::Architecture& architecture);

}  // namespace polyveil::train
