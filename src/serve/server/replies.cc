#include "serve/server/replies.h"

#include <nlohmann/json.hpp>

#include "serve/protocol.h"

namespace polyveil::serve {

std::vector<std::string> PathSegments(std::string_view path) {
  std::vector<std::string> segments;
  while (!path.empty() && segments.size() < 8) {
    path.remove_prefix(path.front() == '/');
    const size_t end = path.find('/');
    segments.emplace_back(path.substr(0, end));
    path = end == std::string_view::npos ? std::string_view() : path.substr(end);
  }
  return segments;
}

Error NoRoute(const Exchange& exchange) {
  return MakeError(ErrorCode::kNotFound, "{} {} is not served", exchange.request().method,
                   exchange.request().path.substr(0, 128));
}

Status ReplyJson(Exchange& exchange, int status, const nlohmann::json& body) {
  HttpReply reply;
  reply.status = status;
  reply.text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  (void)exchange.Reply(reply).ok();
  return {};
}

void ReplyError(Exchange& exchange, const Error& error) {
  Refusal refusal{HttpStatusOf(error.code), error};
  if (refusal.status == 503) refusal.fields = {{"Retry-After", "1"}};
  (void)ReplyRefusal(exchange, refusal).ok();
}

Status ReplyRefusal(Exchange& exchange, const Refusal& refusal) {
  HttpReply reply;
  reply.status = refusal.status;
  reply.text = ErrorToJson(refusal.error);
  reply.fields = refusal.fields;
  (void)exchange.Reply(reply).ok();
  return {};
}

}  // namespace polyveil::serve
