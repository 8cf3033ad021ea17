// Choices that a block of a transformer is made of.
#pragma once

namespace polyveil::model {

enum class NormKind { kLayerNorm, kRmsNorm };

// Where the two norms of a block stand.
enum class BlockForm {
  kPreNorm,   // x += attention(norm1(x)); x += ffn(norm2(x))
  kParallel,  // x += attention(norm1(x)) + ffn(norm2(x))
  kPostNorm,  // x = norm1(x + attention(x)); x = norm2(x + ffn(x))
};

enum class Activation { kGelu, kGeluTanh, kSilu, kRelu };

}  // namespace polyveil::model
