// Blocks of a checkpoint as model/block.h describes them: norm gains folded into the matrices
// behind them (a post-norm encoder's last norm is the client's), means taken out of what writes to
// a layer-normed residual, 1/sqrt(d_head) in the queries.
#pragma once

#include <memory>

#include "model/block.h"
#include "model/encoder_head.h"

namespace polyveil::model {

struct Architecture;
struct Checkpoint;

// Errors: kInvalidArgument for another family than pre-norm decoders and post-norm encoders, or an
// activation that has no polynomial here (field named).
Result<BlockShape> ShapeOfBlocks(const Architecture& architecture);

// Layer `layer`, with the forms of a converted model; its prefix is the caller's part. Weights are
// decoded when they are asked for.
// Errors: those of ShapeOfBlocks, kOutOfRange for a layer that the model lacks.
Result<Block> MakeBlock(std::shared_ptr<const Checkpoint> checkpoint, int layer);

// A classifier's head behind the last block, with the forms' polynomial where they have one.
// Errors: kInvalidArgument for a model without a classifier, or whose pooler is no tanh (named).
Result<EncoderHead> MakeHead(const Checkpoint& checkpoint);

}  // namespace polyveil::model
