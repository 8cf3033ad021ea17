// What a service says of itself: the model, and how it fares.
#include <nlohmann/json.hpp>

#include "base/memory_report.h"
#include "serve/server/model_service.h"
#include "serve/server/replies.h"

namespace polyveil::serve {

using nlohmann::json;

bool ModelService::IsOperation(const Segments& path) {
  return (path.size() == 2 && path[0] == "health") || (path.size() == 1 && path[0] == "metrics");
}

Status ModelService::ShowOperation(Exchange& exchange, const Segments& path) {
  if (exchange.request().method != "GET") return NoRoute(exchange);
  if (path[0] == "metrics") {
    MemoryReport memory;
    const ServiceCounts counts = Count(memory);
    HttpReply reply;
    reply.content_type = "text/plain; version=0.0.4";
    reply.text = operations_.Text(counts, memory);
    (void)exchange.Reply(reply).ok();  // who is gone has no use for an error
    return {};
  }
  const bool restored = !keeper_ || keeper_->done();
  if (path[1] == "live" || (path[1] == "ready" && restored && !draining_))
    return ReplyJson(exchange, 200, {{"status", "ok"}});
  if (path[1] != "ready") return NoRoute(exchange);
  return MakeError(ErrorCode::kUnavailable, "not ready: {}",
                   draining_ ? "the server is ending" : "keys and sessions are being read");
}

ServiceCounts ModelService::Count(MemoryReport& memory) {
  ServiceCounts counts;
  counts.key_sets = keys_.Report(memory);
  shared_.weights->Report(memory);
  if (shared_.choice_weights) shared_.choice_weights->Report(memory);
  counts.sessions = sessions_.Report(memory);
  public_contexts_.Report(memory);
  memory.Add("NTT tables", model_->params()->table_bytes());
  memory.Finish();
  counts.running_steps = queue_.running();
  counts.waiting_steps = queue_.waiting();
  return counts;
}

Status ModelService::ShowStatus(Exchange& exchange) {
  MemoryReport report;
  const ServiceCounts counts = Count(report);
  return ReplyJson(exchange, 200,
                   {{"key_sets", counts.key_sets},
                    {"sessions", counts.sessions},
                    {"jobs", submissions_ ? submissions_->size() : 0},
                    {"running_steps", counts.running_steps},
                    {"waiting_steps", counts.waiting_steps},
                    {"memory", MemoryToJson(report)}});
}

Status ModelService::ShowModel(Exchange& exchange) {
  ModelInfo info = info_;
  DescribeKeyStorage(*model_, keys_.NextAllotment().expanded, info);
  return ReplyJson(exchange, 200, InfoToJson(info));
}

void ModelService::Answered(const HttpRequest& request, int status, double seconds) {
  const auto member = admission_.Find(request.token);
  operations_.Answered(request, member ? member->account->name : "", status, seconds);
}

}  // namespace polyveil::serve
