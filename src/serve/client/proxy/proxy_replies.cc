#include "serve/client/proxy/proxy_replies.h"

#include <nlohmann/json.hpp>

namespace polyveil::serve {
namespace {

constexpr char kRetrySeconds[] = "5";

}  // namespace

int Answer(Exchange& exchange, int status, std::string text, const char* type) {
  HttpReply reply;
  reply.status = status;
  reply.content_type = type;
  reply.text = std::move(text);
  if (status == 429 || status == 503) reply.fields = {{"Retry-After", kRetrySeconds}};
  // A client that is gone has no use for an error.
  (void)exchange.Reply(reply).ok();
  return status;
}

int Refuse(Exchange& exchange, const ApiError& error) {
  return Answer(exchange, error.status, Dump(error.Json()));
}

std::string_view BodyOf(const Exchange& exchange) {
  const wire::Bytes& body = exchange.request().body;
  return {reinterpret_cast<const char*>(body.data()), body.size()};
}

}  // namespace polyveil::serve
