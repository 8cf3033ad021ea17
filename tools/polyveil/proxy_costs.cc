#include "polyveil/proxy_costs.h"

#include <algorithm>

namespace polyveil::tools {

void DescribeCosts(serve::Metrics& metrics) {
  metrics.Describe("polyveil_proxy_step_seconds_total", "Seconds of steps by where they went.");
  metrics.Describe("polyveil_proxy_bytes_total", "Bytes to and from the server.");
}

void CountCosts(serve::Metrics& metrics, double server_seconds, double all_seconds, u64 bytes_up,
                u64 bytes_down) {
  metrics.Count("polyveil_proxy_step_seconds_total", R"(where="server")", server_seconds);
  metrics.Count("polyveil_proxy_step_seconds_total", R"(where="elsewhere")",
                std::max(0.0, all_seconds - server_seconds));
  metrics.Count("polyveil_proxy_bytes_total", R"(direction="up")", static_cast<double>(bytes_up));
  metrics.Count("polyveil_proxy_bytes_total", R"(direction="down")",
                static_cast<double>(bytes_down));
}

serve::EngineFacts FactsOf(const RunReport& report) {
  return {report.server,       report.info.parameters, report.info.security,
          report.key_bytes_up, report.keys_seconds,    report.info.encoder};
}

}  // namespace polyveil::tools
