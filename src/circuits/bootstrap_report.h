// Measures bootstraps: precision, seconds by step, sizes. What `polyveil bench bootstrap --json`
// prints. The secret key stays with the caller, behind two callbacks.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "circuits/bootstrapper.h"

namespace polyveil::circuits {

// One kind of input and the worst of its slots.
struct BootstrapPrecision {
  std::string input;  // "random", "constant", "alternating", "zero", "extreme"
  double worst_bits = 0,
         mean_bits = 0;  // -log2 of the largest and of the mean error of a real or imaginary part
};

struct BootstrapReport {
  std::string parameters;  // Parameters::Describe()
  bool insecure = false;
  int log_n = 0, log_period = 0;
  bool complex_slots = false;
  double log_qp = 0;

  int runs = 0, passes = 1;
  double seconds =
      0;  // mean of all runs but the first, which fills tables (of all, when there is one)
  BootstrapTimes times;  // the same mean
  std::vector<BootstrapPrecision> precision;
  double worst_bits = 0;  // over all inputs
  size_t escapes = 0;     // slots off by more than 2^-6: a value left EvalMod's interval

  int output_level = 0,
      usable_levels = 0;  // usable: down to the level where the next bootstrap starts
  size_t threads = 0;
  std::string backend;
  size_t key_bytes = 0;         // expanded, as held by the server
  size_t seeded_key_bytes = 0;  // as stored and sent
  int key_count = 0;
  size_t plaintext_bytes = 0;
  size_t peak_rss_bytes = 0;
  double create_seconds = 0, keygen_seconds = 0;
};

struct BootstrapClient {
  // Slots (period 2^log_period) -> a fresh ciphertext at the given level and that level's nominal
  // scale.
  std::function<Result<ckks::Ciphertext>(std::span<const Complex>, int level)> encrypt;
  // All slots.
  std::function<Result<std::vector<Complex>>(const ckks::Ciphertext&)> decrypt;
};

inline constexpr int kBootstrapInputs = 6;  // kinds of input

struct BootstrapRuns {
  int count = 3;
  u64 seed = 1;    // of the random inputs
  int passes = 1;  // 2: BootstrapTwice
};

// Runs bootstraps over the kinds of input in turn. Fills everything but keygen_seconds and
// create_seconds. Errors: those of Bootstrap and of the callbacks, kCancelled, kInvalidArgument
// (fewer than one run, passes other than 1 and 2).
Result<BootstrapReport> MeasureBootstraps(const ckks::Evaluator& evaluator,
                                          const Bootstrapper& bootstrapper,
                                          const BootstrapClient& client, const BootstrapRuns& runs,
                                          Progress* progress = nullptr);

}  // namespace polyveil::circuits
