// How fast training is against what the machine's matrix product can do.
#pragma once

#include <torch/torch.h>

#include "train/train_config.h"

namespace polyveil::train {

// Floating-point operations a second of one large matrix product of this type and precision with
// the threads in use: the best of several. Takes some 50 ms.
double MeasureGemmRate(torch::ScalarType type, Precision precision);

// Operations of one token's training step that the model itself asks for: three times its forward
// products (blocks, scores and values over the whole context, head); recomputed scores, norms, the
// optimiser and a teacher count as overhead.
double TrainingFlopsPerToken(const Shape& shape);

}  // namespace polyveil::train
