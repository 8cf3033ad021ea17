#include "bench/engine_bench.h"

#include "base/thread_pool.h"
#include "bench/sections.h"
#include "ring/kernels.h"

namespace polyveil::bench {

Status Section::Begin(const std::string& what) const {
  if (options_.cancelled && options_.cancelled())
    return MakeError(ErrorCode::kCancelled, "benchmark stopped before {}", what);
  if (options_.on_row) options_.on_row(what);
  return {};
}

void Section::Add(Row row) const {
  row.threads = Threads();
  row.peak_rss_bytes = PeakRssBytes();
  report_.rows.push_back(std::move(row));
}

Result<EngineReport> RunEngineBench(const EngineBenchOptions& options) {
  if (options.parameters.empty() || options.threads.empty())
    return MakeError(ErrorCode::kInvalidArgument,
                     "engine benchmark: {} parameter sets, {} numbers of threads",
                     options.parameters.size(), options.threads.size());
  EngineReport report;
  report.backend = ring::ActiveKernels().name;
  for (const auto& params : options.parameters) report.parameters.push_back(params->Describe());
  const Section section(options, report);
  for (const size_t threads : options.threads) {
    PV_RETURN_IF_ERROR(section.Begin(fmt::format("ceilings, {} threads", threads)));
    report.ceilings.push_back(MeasureCeilings(threads, section.Repetitions(7)));
  }
  PV_RETURN_IF_ERROR(MeasureKernels(section, *options.parameters[0]));
  PV_RETURN_IF_ERROR(MeasureScheme(section, options.parameters[0]));
  PV_RETURN_IF_ERROR(MeasureThreading(section, options.parameters[0]));
  for (const auto& params : options.parameters)
    PV_RETURN_IF_ERROR(MeasureBootstrapRows(section, params));
  if (options.model) PV_RETURN_IF_ERROR(MeasureKeyRows(section, *options.model));
  return report;
}

}  // namespace polyveil::bench
