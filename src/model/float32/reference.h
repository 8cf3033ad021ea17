// The plaintext float32 forward pass of every architecture: batches of sequences of different
// lengths, prefill and decode through the same code.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/float32/attention.h"
#include "model/float32/layers.h"
#include "model/float32/linear.h"
#include "model/formats/checkpoint.h"
#include "model/formats/weights.h"

namespace polyveil::model {

using TokenId = std::int32_t;

struct Sequence {
  std::span<const TokenId> tokens;
  std::span<const TokenId> types = {};  // segments; all 0 when empty
  // Decoders: the tokens come behind those in the cache, and are added to it.
  KvCache* cache = nullptr;
};

class FloatReference {
 public:
  // All are kept by reference and must outlive the reference, as must the weights' mapping.
  // forms: of a converted model, checked against the architecture; null as released.
  FloatReference(const Architecture& architecture, const Weights& weights,
                 const ConvertedForms* forms = nullptr);
  explicit FloatReference(const Checkpoint& checkpoint);

  // Hidden states after the last norm, the sequences' rows one after another.
  // Shape: [sum of tokens, d_model]. Errors: kOutOfRange for an empty sequence, a token outside the
  // vocabulary, a segment outside the types, a position outside the context; kInvalidArgument for a
  // cache on an encoder; kMismatch for a text that does not begin with the forms' prefix (all with
  // both values). On an error caches are unchanged.
  Result<FloatMatrix> Hidden(std::span<const Sequence> batch) const;

  // hidden [rows, d_model] -> logits [rows, vocabulary]. Requires a causal head.
  FloatMatrix Logits(const FloatMatrix& hidden) const;

  // The same from what the last block leaves, before the last norm.
  FloatMatrix LogitsOfResidual(FloatMatrix x) const;

  // Logits of a classifier: [sequences, labels]. Errors as Hidden's; kMismatch without a
  // classifier.
  Result<FloatMatrix> Classify(std::span<const Sequence> batch) const;

  const Architecture& architecture() const { return a_; }
  const Weights& weights() const { return w_; }

 private:
  Status CheckSequence(const Sequence& sequence) const;
  FloatMatrix Embed(std::span<const Sequence> batch) const;
  FloatMatrix Attention(int layer, const FloatMatrix& x, std::span<const Sequence> batch) const;
  FloatMatrix FeedForward(int layer, const FloatMatrix& x, std::span<const Sequence> batch) const;
  // The layer's polynomials, if it has come to them; rows of the prefix stay exact.
  const LayerConfig* Polynomials(int layer) const;
  std::vector<bool> PrefixRows(std::span<const Sequence> batch) const;
  void Block(int layer, FloatMatrix& x, std::span<const Sequence> batch) const;
  void Rotate(FloatMatrix& qkv, std::span<const Sequence> batch) const;
  AttentionTask MakeTask(int layer, const Sequence& sequence, const float* qkv, float* out) const;

  const Architecture& a_;
  const Weights& w_;
  const ConvertedForms* forms_;
  std::optional<RotaryTable> rotary_;
};

// What layer `layer` reads of a text (which begins with the forms' prefix): [tokens][d_model], the
// residual of the model in its form; as the blocks keep it: without its mean for LayerNorm, and of
// a post-norm model without the last norm's gain and bias. Errors: kOutOfRange for the layer, those
// of FloatReference::Hidden.
Result<std::vector<std::vector<double>>> InputsOfLayer(const Checkpoint& checkpoint, int layer,
                                                       std::span<const std::int32_t> tokens);

}  // namespace polyveil::model
