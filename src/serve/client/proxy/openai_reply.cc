#include "serve/client/proxy/openai_reply.h"

#include <ctime>
#include <nlohmann/json.hpp>

#include "base/csprng.h"
#include "base/digest.h"
#include "base/printable.h"
#include "serve/client/proxy/openai_request.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

std::string NewId(const char* kind) {
  const Seed seed = RandomSeed();
  return kind + ToHex(std::span(seed).first(12));
}

const char* FinishReason(model::TextEnd end) {
  const bool length = end == model::TextEnd::kTokens || end == model::TextEnd::kContext;
  return length ? "length" : "stop";
}

json UsageOf(const TextOutcome& outcome) {
  return {{"prompt_tokens", outcome.prompt_tokens},
          {"completion_tokens", outcome.new_tokens},
          {"total_tokens", outcome.prompt_tokens + outcome.new_tokens},
          {"prompt_tokens_details", {{"cached_tokens", outcome.reused_tokens}}}};
}

}  // namespace

std::string Dump(const json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ApiError ApiError::OfRequest(const Error& error) {
  ApiError api{400, "invalid_request_error", "", FieldOf(error), error.message};
  if (error.code == ErrorCode::kOutOfRange) api.code = "context_length_exceeded";
  if (error.code == ErrorCode::kNotFound) {
    api.status = 404;
    api.code = "not_found";
  }
  if (error.code == ErrorCode::kUnavailable) {  // the queue is full
    api.status = 429;
    api.type = "rate_limit_error";
    api.code = "queue_full";
  }
  return api;
}

ApiError ApiError::OfRun(const Error& error) {
  const bool busy = error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kResource ||
                    error.code == ErrorCode::kCancelled;
  return {busy ? 503 : 502, "server_error", ErrorCodeName(error.code), "", error.message};
}

json ApiError::Json() const {
  const auto or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  return {
      {"error",
       {{"message", message}, {"type", type}, {"param", or_null(field)}, {"code", or_null(code)}}}};
}

ApiAnswer::ApiAnswer(const TextRequest& request, std::string model, std::string fingerprint)
    : chat_(request.chat),
      include_usage_(request.include_usage),
      model_(std::move(model)),
      fingerprint_(std::move(fingerprint)),
      id_(NewId(chat_ ? "chatcmpl-" : "cmpl-")),
      created_(std::time(nullptr)) {}

json ApiAnswer::Frame(const char* object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", model_},
          {"system_fingerprint", fingerprint_}};
}

std::string ApiAnswer::Whole(const std::string& text, const TextOutcome& outcome) const {
  json body = Frame(chat_ ? "chat.completion" : "text_completion");
  json choice = {{"index", 0}, {"finish_reason", FinishReason(outcome.end)}, {"logprobs", nullptr}};
  if (chat_) {
    choice["message"] = {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
  } else {
    choice["text"] = text;
  }
  body["choices"] = json::array({choice});
  body["usage"] = UsageOf(outcome);
  return Dump(body);
}

json ApiAnswer::Choice(const std::string& text, bool first) const {
  json body = Frame(chat_ ? "chat.completion.chunk" : "text_completion");
  json choice = {{"index", 0}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
  if (chat_) {
    choice["delta"] = {{"content", text}};
    if (first) choice["delta"]["role"] = "assistant";
  } else {
    choice["text"] = text;
  }
  body["choices"] = json::array({choice});
  if (include_usage_) body["usage"] = nullptr;
  return body;
}

std::string ApiAnswer::Begin() const { return chat_ ? SseEvent(Choice("", true)) : std::string(); }

std::string ApiAnswer::Piece(const std::string& text) const {
  return SseEvent(Choice(text, false));
}

std::string ApiAnswer::End(const TextOutcome& outcome) const {
  json last = Choice("", false);
  last["choices"][0]["finish_reason"] = FinishReason(outcome.end);
  if (chat_) last["choices"][0]["delta"] = json::object();
  std::string events = SseEvent(last);
  if (include_usage_) {
    json usage = Frame(chat_ ? "chat.completion.chunk" : "text_completion");
    usage["choices"] = json::array();
    usage["usage"] = UsageOf(outcome);
    events += SseEvent(usage);
  }
  return events + "data: [DONE]\n\n";
}

std::string SseEvent(const json& data) { return "data: " + Dump(data) + "\n\n"; }

std::string SseComment(std::string_view text) { return ": " + Printable(text, 256) + "\n\n"; }

}  // namespace polyveil::serve
