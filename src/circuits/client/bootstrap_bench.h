// Key generation and bootstraps in one process: `polyveil bench bootstrap` (library
// pv_circuits_client, which reads a secret key and is never linked by server targets).
#pragma once

#include "circuits/bootstrap_report.h"

namespace polyveil::circuits {

struct BootstrapBenchOptions {
  ckks::ParametersPtr params;
  BootstrapSpec spec;
  BootstrapRuns runs{.count = 6};  // the first fills tables and is not timed
};

// Generates the keys that the spec needs and measures. Errors: those of Bootstrapper and
// KeyGenerator, kCancelled.
Result<BootstrapReport> RunBootstrapBench(const BootstrapBenchOptions& options,
                                          Progress* progress = nullptr);

}  // namespace polyveil::circuits
