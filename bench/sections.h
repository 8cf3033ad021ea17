// The sections of the engine's benchmark (internal to it).
#pragma once

#include "bench/engine_bench.h"

namespace polyveil::bench {

inline constexpr double kScale = 0x1p40;  // of plaintexts that are timed

class Section {
 public:
  Section(const EngineBenchOptions& options, EngineReport& report)
      : options_(options), report_(report) {}

  const EngineBenchOptions& options() const { return options_; }
  int Repetitions(int normal) const { return options_.quick ? std::min(normal, 3) : normal; }
  // Says what comes; kCancelled when the caller wants no more.
  Status Begin(const std::string& what) const;
  void Add(Row row) const;

 private:
  const EngineBenchOptions& options_;
  EngineReport& report_;
};

Status MeasureKernels(const Section& section, const ckks::Parameters& params);
Status MeasureScheme(const Section& section, const ckks::ParametersPtr& params);
// Threads: the cost of a loop, several ciphertexts by one key, compact keys.
Status MeasureThreading(const Section& section, const ckks::ParametersPtr& params);
Status MeasureBootstrapRows(const Section& section, const ckks::ParametersPtr& params);
Status MeasureKeyRows(const Section& section, const compile::CompiledProgram& model);

}  // namespace polyveil::bench
