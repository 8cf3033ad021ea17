// Picking the next token from logits: greedy, temperature, top-p, reproducible from a seed.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "base/result.h"
#include "model/client/tokenizer.h"

namespace polyveil::model {

struct SamplingOptions {
  double temperature = 0;  // 0 is greedy
  double top_p = 1;        // nucleus: the smallest set of tokens with at least this probability
  std::uint64_t seed = 0;
};

// Refuses temperature < 0 or not finite, top_p outside (0, 1].
Status ValidateSampling(const SamplingOptions& options);

class Sampler {
 public:
  // Requires ValidateSampling(options).ok().
  explicit Sampler(const SamplingOptions& options);

  // logits: one a token. Greedy ties go to the smaller id. Same seed and logits, same tokens, on
  // every machine (own uniform draw from mt19937_64).
  TokenId Pick(std::span<const double> logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace polyveil::model
