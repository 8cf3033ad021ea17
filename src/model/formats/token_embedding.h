// The values that a text's tokens enter the first block with: by token, position and runs of
// tokens. The client uses it for what it encrypts, a server for public tokens.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/formats/client_tensors.h"

namespace polyveil::model {

class TokenEmbedding {
 public:
  // Takes the tables of a token, its position and the runs that end in it. The tensors' files
  // outlive the embedding. Errors: those of ClientTensors.
  static Result<TokenEmbedding> Take(const ClientConfig& config, ClientTensors& tensors);

  // The values of the text's last token. text: every token, the prefix' too. Errors: kOutOfRange
  // for no text, the prefix alone, a token outside the vocabulary or a position outside the
  // context.
  Result<std::vector<double>> Embed(std::span<const std::int32_t> text, int segment = 0) const;
  // Of each of the first tokens behind the prefix. segments: of each token; empty: all 0. Errors:
  // the same, the token's place named; kOutOfRange for a segment that the model has no row for,
  // kMismatch for other numbers of tokens and segments.
  Result<std::vector<std::vector<double>>> EmbedAll(
      std::span<const std::int32_t> tokens, std::span<const std::int32_t> segments = {}) const;
  const RowTable& tokens() const { return tokens_; }

 private:
  explicit TokenEmbedding(const ClientConfig& config) : config_(config) {}

  ClientConfig config_;
  RowTable tokens_, positions_, segments_;
  std::vector<RowTable> ngrams_;
  std::optional<GainedNorm> norm_;
};

// Of the files of a client's half, which stay; nothing of its tokenizer and head is read. Errors:
// kNotFound (no client.json), those of ParseClientConfig and Take.
Result<std::shared_ptr<const TokenEmbedding>> LoadTokenEmbedding(
    std::shared_ptr<const ClientFiles> files);

}  // namespace polyveil::model
