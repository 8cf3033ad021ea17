#include "model/client/text_loop.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/printable.h"
#include "base/utf8.h"

namespace polyveil::model {

const char* TextEndName(TextEnd end) {
  switch (end) {
    case TextEnd::kTokens:
      return "tokens";
    case TextEnd::kEndToken:
      return "end token";
    case TextEnd::kStop:
      return "stop text";
    case TextEnd::kContext:
      return "context";
  }
  return "";
}

// A stop text that began inside a character would cut one.
Status ValidateTextOptions(const TextOptions& options) {
  for (const std::string& stop : options.stops) {
    if (stop.empty()) return MakeError(ErrorCode::kInvalidArgument, "a stop text is empty");
    Utf8Stream characters;
    if (characters.Push(stop) != stop)
      return MakeError(ErrorCode::kInvalidArgument, "the stop text \"{}\" is no UTF-8",
                       Printable(stop, 64));
  }
  return ValidateSampling(options.sampling);
}

TextLoop::TextLoop(const ClientHalf& half, int context, const TextOptions& options)
    : half_(half),
      context_(context),
      options_(options),
      sampler_(options.sampling),
      output_(options.stops) {}

Status TextLoop::Pick(const std::vector<double>& logits, TextStep& step) {
  const auto bad = std::ranges::find_if(logits, [](double x) { return !std::isfinite(x); });
  if (bad != logits.end())
    return MakeError(ErrorCode::kUntrustedResult,
                     "a value left its interval at token {}: a logit is {}", step.position + 1,
                     *bad);
  const TokenId next =
      sampler_.Pick(logits, std::span(text_).subspan(static_cast<std::size_t>(half_.prefix())));
  text_.push_back(next);
  step.next = next;
  step.ends = half_.Ends(next) || std::ranges::find(options_.ends, next) != options_.ends.end();
  if (step.ends) return {};
  PV_ASSIGN_OR_RETURN(const std::string piece, half_.Piece(next));
  step.shown = output_.Push(piece);
  return {};
}

void TextLoop::Preload(std::span<const TokenId> tokens) {
  PV_CHECK(text_.empty() && static_cast<int>(tokens.size()) >= half_.prefix(),
           "{} tokens behind {}", tokens.size(), text_.size());
  text_.assign(tokens.begin(), tokens.end());
  fed_ = static_cast<int>(text_.size()) - half_.prefix();
}

Status TextLoop::Begin(std::span<const TokenId> more, int new_tokens) {
  text_.insert(text_.end(), more.begin(), more.end());
  const int tokens = static_cast<int>(text_.size()) - half_.prefix();
  if (tokens > context_)
    return MakeError(ErrorCode::kOutOfRange, "a text of {} tokens, the model's context is {}",
                     tokens, context_);
  if (tokens <= fed_) return MakeError(ErrorCode::kOutOfRange, "a text of no new tokens");
  left_ = new_tokens;
  ended_.reset();
  return {};
}

Result<TextStep> TextLoop::Take(const std::vector<double>& logits) {
  TextStep step{fed_, Next().back(), {}, false, {}};
  ++fed_;
  if (fed_ + half_.prefix() < static_cast<int>(text_.size())) return step;
  PV_RETURN_IF_ERROR(Pick(logits, step));
  --left_;
  if (step.ends)
    ended_ = TextEnd::kEndToken;
  else if (output_.stopped())
    ended_ = TextEnd::kStop;
  else if (left_ == 0)
    ended_ = TextEnd::kTokens;
  else if (fed_ == context_)
    ended_ = TextEnd::kContext;
  return step;
}

Result<TextEnd> TextLoop::Continue(std::span<const TokenId> more, int new_tokens, const Feed& feed,
                                   const OnStep& on_step) {
  PV_RETURN_IF_ERROR(Begin(more, new_tokens));
  while (!ended_) {
    PV_ASSIGN_OR_RETURN(const auto logits, feed(Next()));
    PV_ASSIGN_OR_RETURN(const TextStep step, Take(logits));
    on_step(step);
  }
  return *ended_;
}

std::string TextLoop::Finish() {
  std::string shown = output_.Finish();
  output_ = TextOutput(options_.stops);
  return shown;
}

}  // namespace polyveil::model
