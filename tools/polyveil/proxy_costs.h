// What texts of the proxy's have cost, as its metrics and its page show it.
#pragma once

#include "polyveil/run_report.h"
#include "serve/client/proxy/engine.h"
#include "serve/metrics.h"

namespace polyveil::tools {

void DescribeCosts(serve::Metrics& metrics);
void CountCosts(serve::Metrics& metrics, double server_seconds, double all_seconds, u64 bytes_up,
                u64 bytes_down);
// report: of the connection and its keys.
serve::EngineFacts FactsOf(const RunReport& report);

}  // namespace polyveil::tools
