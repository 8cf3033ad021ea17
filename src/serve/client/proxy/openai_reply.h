// Replies of the OpenAI API: whole answers, events of a stream, errors.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "serve/client/proxy/text_engine.h"

namespace polyveil::serve {

struct ApiError {
  int status = 500;
  std::string type, code, field, message;

  // Of a request that was not run, and of a run.
  static ApiError OfRequest(const Error& error);
  static ApiError OfRun(const Error& error);
  nlohmann::json Json() const;  // {"error":{"message","type","param","code"}}
};

// The shapes of one answer: the same id in all of its events.
class ApiAnswer {
 public:
  ApiAnswer(const TextRequest& request, std::string model, std::string fingerprint);

  std::string Whole(const std::string& text, const TextOutcome& outcome) const;
  // Events of a stream: the first (of a chat), pieces of text, the last, and what was asked for
  // behind it.
  std::string Begin() const;
  std::string Piece(const std::string& text) const;
  std::string End(const TextOutcome& outcome) const;

 private:
  nlohmann::json Frame(const char* object) const;
  nlohmann::json Choice(const std::string& text, bool first) const;

  const bool chat_, include_usage_;
  const std::string model_, fingerprint_, id_;
  const long created_;
};

// An event of a stream (SSE) and a comment, which keeps a connection alive and means nothing.
std::string SseEvent(const nlohmann::json& data);
std::string SseComment(std::string_view text);

std::string Dump(const nlohmann::json& json);  // bytes that are no UTF-8 are replaced

}  // namespace polyveil::serve
