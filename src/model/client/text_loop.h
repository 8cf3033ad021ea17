// The loop of generation: tokens in, logits from wherever they come, the next token out.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/client/client_half.h"
#include "model/client/sampling.h"
#include "model/client/text_output.h"

namespace polyveil::model {

enum class TextEnd {
  kTokens,    // as many as were asked for
  kEndToken,  // the model ended the text
  kStop,      // a stop text
  kContext,   // the context is full
};
const char* TextEndName(TextEnd end);

struct TextOptions {
  SamplingOptions sampling;
  std::vector<std::string> stops;
  std::vector<TokenId> ends = {};  // beside the model's own
};

// Refuses stop texts that are empty or no UTF-8, and what ValidateSampling refuses.
Status ValidateTextOptions(const TextOptions& options);

// One token that was fed, and the one picked from its result.
struct TextStep {
  int position = 0;  // without the prefix
  TokenId token = 0;
  std::optional<TokenId> next;  // nothing inside a prompt
  bool ends = false;            // next is an end token
  std::string shown;            // the characters that `next` completes
};

class TextLoop {
 public:
  // Logits of the last token of a text, prefix included.
  using Feed = std::function<Result<std::vector<double>>(std::span<const TokenId> text)>;
  using OnStep = std::function<void(const TextStep&)>;

  // context: tokens that a text may have behind the prefix. half outlives the loop.
  TextLoop(const ClientHalf& half, int context, const TextOptions& options);

  // Begins a text with tokens that were fed elsewhere: the prefix and public ones. Requires an
  // empty text.
  void Preload(std::span<const TokenId> tokens);
  // Adds tokens to the text (the first of a text are the prefix), feeds what was not fed yet, then
  // each picked token, until new_tokens are picked or the text ends otherwise. The last picked
  // token is fed by the next call. Errors: kOutOfRange for a text that does not fit the context
  // (both values) or leaves nothing to feed, kUntrustedResult for logits that are not finite, those
  // of feed.
  Result<TextEnd> Continue(std::span<const TokenId> more, int new_tokens, const Feed& feed,
                           const OnStep& on_step);
  // The same for whoever feeds several texts: Begin, then Take of what Next names, until it has
  // ended. Errors: as Continue's.
  Status Begin(std::span<const TokenId> more, int new_tokens);
  // The text up to the token that is fed next, prefix included.
  std::span<const TokenId> Next() const {
    return std::span(text_).first(static_cast<std::size_t>(half_.prefix() + fed_) + 1);
  }
  Result<TextStep> Take(const std::vector<double>& logits);
  const std::optional<TextEnd>& ended() const { return ended_; }
  // Characters that waited for more, when the text goes on no more (or in a new turn).
  std::string Finish();

  const std::vector<TokenId>& text() const { return text_; }
  int fed() const { return fed_; }  // tokens behind the prefix
  // Tokens that may still be added, those picked and not fed counted.
  int room() const { return context_ + half_.prefix() - static_cast<int>(text_.size()); }

 private:
  Status Pick(const std::vector<double>& logits, TextStep& step);

  const ClientHalf& half_;
  const int context_;
  const TextOptions options_;
  Sampler sampler_;
  TextOutput output_;
  std::vector<TokenId> text_;
  int fed_ = 0;
  int left_ = 0;  // tokens to be picked
  std::optional<TextEnd> ended_;
};

}  // namespace polyveil::model
