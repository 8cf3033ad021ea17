// Log-probabilities of texts under a language model: what every evaluation asks for.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/client/text/text_tokenizer.h"

namespace polyveil::model {

struct Checkpoint;

// The continuation's tokens are scored, each given everything before it.
struct ScoreRequest {
  std::vector<TokenId> context;  // at least one token
  std::vector<TokenId> continuation;
  std::size_t group =
      0;  // neighbours of one group may share the work of the tokens they begin with
};

struct TextScore {
  double log_probability = 0;  // natural, summed over the continuation
  bool greedy = true;          // every token of the continuation is the likeliest one
};

class TextScorer {
 public:
  virtual ~TextScorer() = default;
  virtual std::vector<TokenId> Encode(std::string_view text) const = 0;
  // What stands before every text; never empty.
  virtual std::vector<TokenId> Beginning() const = 0;
  // Whether Beginning also stands before texts that are not empty.
  virtual bool AlwaysBegins() const = 0;
  virtual int context() const = 0;  // tokens that the model can read
  // So many tokens make one call of Score efficient.
  virtual std::size_t batch_tokens() const = 0;

  // One score a request, in their order. Errors: kOutOfRange for a request longer than the context
  // + 1 or without context; the model's.
  virtual Result<std::vector<TextScore>> Score(std::span<const ScoreRequest> requests) const = 0;
};

// A released decoder. Requests that follow each other with the same context share its pass.
// The checkpoint's bytes must outlive the scorer. Errors: kMismatch for a model without a causal
// head, kNotFound without a token to begin with.
Result<std::unique_ptr<TextScorer>> MakeScorer(std::shared_ptr<const Checkpoint> checkpoint);

}  // namespace polyveil::model
