// Blocks on ciphertexts in one process, client and server: time by component beside the plan's
// estimate, error against the float64 block, keys and memory. What `polyveil bench layer` prints.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "ckks/key_storage.h"
#include "compile/compiled_decoder.h"
#include "runtime/latency_table.h"

namespace polyveil::bench {

struct LayerBenchOptions {
  std::shared_ptr<const compile::CompiledDecoder> program;
  std::vector<std::vector<double>> tokens;  // inputs, one a step
  int at_once = 0;                          // the first of them, by one of the program's prompts()
  ckks::KeyStorage key_storage = ckks::KeyStorage::kAuto;
  size_t key_budget = 6'000'000'000;   // bytes in memory, of kAuto
  std::optional<size_t> weight_bytes;  // of what a runtime::WeightStore keeps
  std::function<void(double, const std::string&)> on_progress;
  std::function<bool()> cancelled;
};

struct LayerToken {
  double seconds = 0;
  double error = 0;        // largest difference from the polynomial block in float64
  double exact_error = 0;  // from the block with exact functions
  double size = 0;         // largest |output|
  double rms = 0;          // of the output
  double update = 0;       // largest |output - input|: what the block adds
  std::vector<double> output, polynomial, exact;  // decrypted, and of the float64 blocks
};

struct LayerReport {
  double keys_seconds = 0;
  size_t key_bytes = 0, wire_key_bytes = 0, state_bytes = 0, peak_rss_bytes = 0;
  int key_count = 0;
  std::vector<LayerToken> tokens;
  // Of the tokens at once, or else of those after the first, which touches its memory first.
  runtime::LatencyTable latency;
  std::map<std::string, double> operations;  // seconds of the last step by Node::name
  std::vector<double> estimated;  // seconds by compile::Component: a token, or those at once
};

// Errors: kCancelled, those of the engine.
Result<LayerReport> RunLayerBench(const LayerBenchOptions& options);

}  // namespace polyveil::bench
