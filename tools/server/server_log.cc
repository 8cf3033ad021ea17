#include "server/server_log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/printable.h"

namespace polyveil {

ServerLog::ServerLog(const std::string& level)
    : log_(std::make_shared<spdlog::logger>("polyveil-server",
                                            std::make_shared<spdlog::sinks::stderr_sink_mt>())) {
  log_->set_level(spdlog::level::from_str(level));
  log_->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  log_->flush_on(spdlog::level::info);
}

void ServerLog::Say(const std::string& line) const { log_->info(line); }

serve::RequestLog ServerLog::requests() const {
  return [log = log_](const serve::LogEntry& entry) {
    log->log(entry.status >= 500 ? spdlog::level::warn : spdlog::level::info,
             "request id={} method={} path={} account={} status={} seconds={:.3f}", entry.id,
             Printable(entry.method, 16), Printable(entry.path, 128),
             entry.account.empty() ? "-" : entry.account, entry.status, entry.seconds);
  };
}

}  // namespace polyveil
