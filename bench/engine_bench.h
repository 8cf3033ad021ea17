// One run that measures every row of the engine's performance table: kernels, operations,
// bootstraps, keys, beside the machine's ceilings of the same run. What `polyveil bench engine`
// prints; docs/performance.md explains the rows.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/measure.h"
#include "ckks/parameters.h"
#include "compile/compiled_program.h"

namespace polyveil::bench {

struct Row {
  std::string id;  // "rotate_27": targets.h knows the table's
  std::string name;
  std::string parameters;
  size_t threads = 1;
  Measured measured;          // all zero for rows that are sizes
  Work work;                  // zero where no floor is stated
  double bytes = 0;           // rows that are sizes: the size; else the keys and operands touched
  size_t peak_rss_bytes = 0;  // of the process so far
  std::map<std::string, double> details;  // "worst_bits", "usable_levels", "key_bytes" ...
};

struct EngineBenchOptions {
  // The first is that of the scheme's operations; each measures the bootstraps it is for.
  std::vector<ckks::ParametersPtr> parameters;
  std::vector<size_t> threads = {1, 2};  // ascending
  bool quick = false;  // fewer repetitions, one bootstrap of one period, no key generation
  // Whose evaluation keys are counted and made; null: those rows are missing.
  std::shared_ptr<const compile::CompiledProgram> model;
  std::function<bool()> cancelled;                 // asked between rows
  std::function<void(const std::string&)> on_row;  // told what is measured next
};

struct EngineReport {
  std::vector<std::string> parameters;  // Parameters::Describe()
  std::string backend;
  std::vector<Ceilings> ceilings;  // one per number of threads
  std::vector<Row> rows;
};

// Memory: one section's keys at a time, at most those of a full bootstrap. Leaves the pool's number
// of threads changed. Errors: those of the operations, kCancelled.
Result<EngineReport> RunEngineBench(const EngineBenchOptions& options);

}  // namespace polyveil::bench
