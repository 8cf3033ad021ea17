#include "serve/server/operations.h"

#include <algorithm>

#include "serve/server/replies.h"

namespace polyveil::serve {
namespace {

// What is served; N stands for a number or a name.
constexpr const char* kRoutes[] = {"/v1/model",
                                   "/v1/model/client",
                                   "/v1/model/client/files/N",
                                   "/v1/status",
                                   "/v1/keys",
                                   "/v1/keys/chunks/N",
                                   "/v1/keys/complete",
                                   "/v1/sessions",
                                   "/v1/sessions/step",
                                   "/v1/sessions/latency",
                                   "/v1/sessions/prompt/N",
                                   "/v1/jobs",
                                   "/v1/jobs/prompt/N",
                                   "/v1/jobs/pages/N",
                                   "/health/live",
                                   "/health/ready",
                                   "/metrics"};
constexpr const char* kMethods[] = {"GET", "POST", "PUT", "DELETE"};

using Segments = std::vector<std::string>;

bool Matches(const Segments& path, const Segments& route) {
  return std::ranges::equal(path, route, [](const std::string& segment, const std::string& known) {
    return known == "N" || segment == known;
  });
}

// Labels are kept for good: of what anyone may send, only a route becomes one.
std::string RouteOf(const HttpRequest& request) {
  static const std::vector<Segments> routes = [] {
    std::vector<Segments> all;
    for (const char* route : kRoutes) all.push_back(PathSegments(route));
    return all;
  }();
  const Segments path = PathSegments(request.path);
  const auto found = std::ranges::find_if(routes, [&](const auto& r) { return Matches(path, r); });
  return found == routes.end() ? "" : kRoutes[found - routes.begin()];
}

std::string MethodOf(const HttpRequest& request) {
  const bool known = std::ranges::find(kMethods, request.method) != std::end(kMethods);
  return known ? request.method : "other";
}

}  // namespace

Operations::Operations(RequestLog log) : log_(std::move(log)) {
  metrics_.Describe("polyveil_requests_total", "Requests by route and status.");
  metrics_.Describe("polyveil_rejected_total", "Requests that were refused, by status.");
  metrics_.Describe("polyveil_tokens_total", "Tokens that steps have taken.");
  metrics_.Describe("polyveil_prompts_total", "Prompts read at once.");
  metrics_.Describe("polyveil_bootstraps_total", "Bootstraps of all steps.");
  metrics_.Describe("polyveil_step_seconds", "Seconds of a step.");
  metrics_.Describe("polyveil_component_seconds", "Seconds of a step by component.");
  metrics_.Describe("polyveil_steps", "Steps that run and wait.");
  metrics_.Describe("polyveil_key_sets", "Sets of evaluation keys.");
  metrics_.Describe("polyveil_sessions", "Texts under way.");
  metrics_.Describe("polyveil_memory_bytes", "Memory by kind.");
}

void Operations::Answered(const HttpRequest& request, const std::string& account, int status,
                          double seconds) {
  metrics_.Count("polyveil_requests_total",
                 fmt::format(R"(method="{}",route="{}",code="{}")", MethodOf(request),
                             RouteOf(request), status));
  if (status >= 400) metrics_.Count("polyveil_rejected_total", fmt::format(R"(code="{}")", status));
  if (log_) log_({request.id, request.method, request.path, account, status, seconds});
}

void Operations::Stepped(const runtime::LatencyTable& latency, int tokens, bool prompt) {
  metrics_.Count("polyveil_tokens_total", "", tokens);
  if (prompt) metrics_.Count("polyveil_prompts_total");
  metrics_.Observe("polyveil_step_seconds", "", latency.total_seconds);
  for (const auto& row : latency.components) {
    metrics_.Observe("polyveil_component_seconds", fmt::format(R"(component="{}")", row.name),
                     row.seconds);
    if (row.name == "bootstrap") metrics_.Count("polyveil_bootstraps_total", "", row.count);
  }
}

std::string Operations::Text(const ServiceCounts& counts, const MemoryReport& memory) {
  const auto set = [&](const char* name, const std::string& labels, size_t value) {
    metrics_.Set(name, labels, static_cast<double>(value));
  };
  set("polyveil_steps", R"(state="running")", counts.running_steps);
  set("polyveil_steps", R"(state="waiting")", counts.waiting_steps);
  set("polyveil_key_sets", "", counts.key_sets);
  set("polyveil_sessions", "", counts.sessions);
  for (const MemoryReport::Entry& entry : memory.entries())
    set("polyveil_memory_bytes", fmt::format(R"(kind="{}")", entry.name), entry.bytes);
  return metrics_.Text();
}

}  // namespace polyveil::serve
