// What the proxy asks texts of: a model on a server that writes, or a test's own.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/client/text_loop.h"
#include "serve/client/proxy/engine.h"

namespace polyveil::serve {

struct ChatMessage {
  std::string role, text;
  bool operator==(const ChatMessage&) const = default;
};

struct TextRequest {
  bool chat = false;
  std::string model;
  std::vector<ChatMessage> messages;       // of a chat: system or none, then user and assistant
  std::string prompt;                      // of a completion, or
  std::vector<model::TokenId> prompt_ids;  // its tokens
  model::TextOptions text;
  std::optional<int> new_tokens;
  bool stream = false, include_usage = false, echo = false;
};

struct PreparedText {
  TextRequest request;
  std::vector<model::TokenId> tokens;  // of the whole text, with what stands before every one
  int new_tokens = 0;
};

struct TextEvents : RunEvents {
  std::function<void(std::string_view)> on_text;  // whole characters
};

struct TextOutcome {
  model::TextEnd end = model::TextEnd::kTokens;
  int prompt_tokens = 0;
  int reused_tokens = 0;  // of the prompt: a session of before had them
  int new_tokens = 0;
};

class TextEngine : public Engine {
 public:
  // Names the computation: with the same seed and text it gives the same tokens.
  virtual std::string fingerprint() const = 0;
  // From many threads. Errors: kInvalidArgument (what the model has no place for), kOutOfRange (a
  // text above the context, both values).
  virtual Result<PreparedText> Prepare(TextRequest request) const = 0;
  // One at a time; ends soon once `cancel` is true (kCancelled).
  virtual Result<TextOutcome> Run(const PreparedText& text, const std::atomic<bool>& cancel,
                                  const TextEvents& events) = 0;
};

}  // namespace polyveil::serve
