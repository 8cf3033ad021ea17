// The constant tokens before every text: their keys and values in every layer, in float64 with the
// exact functions, as docs/formats/converted-model.md defines them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/block.h"

namespace polyveil::model {

struct Checkpoint;

// What the first layer reads of a text that begins with these tokens: [tokens][d_model], without
// the mean for LayerNorm; of a post-norm model normalised, without gain and bias. Segments are 0.
// Errors: kOutOfRange for tokens outside the vocabulary or the context.
Result<std::vector<std::vector<double>>> EmbedTokens(const Checkpoint& checkpoint,
                                                     std::span<const std::int32_t> tokens);

// Sets the block's prefix to keys and values of these inputs. They depend on the block's weights
// and on no form of its own.
Status SetPrefix(Block& block, const std::vector<std::vector<double>>& inputs);

// What the block, whose forms are set, makes of the prefix's inputs: the next block's.
Status AdvancePrefix(const Block& block, std::vector<std::vector<double>>& inputs);

}  // namespace polyveil::model
