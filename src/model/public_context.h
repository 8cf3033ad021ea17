// Keys and values of tokens that stand before a text and are no secret: a server computes them in
// the clear, and ciphertexts meet them as plaintexts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace polyveil::model {

struct PublicContext {
  // Of one block, [prefix + tokens, kv_width] each: the constant prefix comes first.
  struct KeyValues {
    std::vector<double> keys, values;
  };

  int tokens = 0;  // the prefix not among them
  std::vector<KeyValues> blocks;
  // Inputs of polynomials outside their intervals, and the first of the worst: its site.
  std::uint64_t out_of_range = 0;
  std::string worst_site;

  std::size_t bytes() const;
};

// What a context of so many tokens takes.
std::size_t PublicContextBytes(const Decoder& decoder, int tokens);

// A text of `tokens` public ones must leave room for an encrypted one. Errors: kOutOfRange, both
// values.
Status CheckPublicTokens(int tokens, int context);

// The decoder's own function of the tokens, in float64: equal to what encrypted tokens of the same
// text would leave in their caches. embeddings: of the first tokens behind the prefix. Cost: every
// block's weights are loaded once, and released. Errors: those of CheckPublicTokens, kMismatch of a
// width, kUntrustedResult for values that are not finite (token and site), kCancelled.
Result<std::shared_ptr<const PublicContext>> ComputePublicContext(
    const Decoder& decoder, std::vector<std::vector<double>> embeddings,
    const std::atomic<bool>* cancel = nullptr);

}  // namespace polyveil::model
