// What whoever runs a server watches: metrics, and a line for each request.
#pragma once

#include <functional>
#include <string>

#include "base/memory_report.h"
#include "runtime/latency_table.h"
#include "serve/metrics.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

// One request, as a log may have it: no name of keys or sessions, no token, nothing of a body.
struct LogEntry {
  std::string id, method, path, account;
  int status = 0;
  double seconds = 0;
};
using RequestLog = std::function<void(const LogEntry&)>;

// How many there are at this moment.
struct ServiceCounts {
  size_t key_sets = 0, sessions = 0, running_steps = 0, waiting_steps = 0;
};

class Operations {
 public:
  explicit Operations(RequestLog log);

  void Answered(const HttpRequest& request, const std::string& account, int status, double seconds);
  // A step of one token, or of a prompt's.
  void Stepped(const runtime::LatencyTable& latency, int tokens, bool prompt);
  std::string Text(const ServiceCounts& counts, const MemoryReport& memory);

 private:
  const RequestLog log_;
  Metrics metrics_;
};

}  // namespace polyveil::serve
