// Picking the next token from logits: greedy, temperature, top-k, top-p, repetition penalty;
// reproducible from a seed.
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
  int top_k = 0;           // that many most likely tokens, of which the nucleus is taken; 0: all
  // Divides the positive logits of tokens that the text has already, multiplies the negative ones
  // (as transformers does); 1: none.
  double repetition_penalty = 1;
  std::uint64_t seed = 0;
};

// Refuses temperature < 0 or not finite, top_p outside (0, 1], top_k < 0, penalties outside (0,
// 100].
Status ValidateSampling(const SamplingOptions& options);

class Sampler {
 public:
  // Requires ValidateSampling(options).ok().
  explicit Sampler(const SamplingOptions& options);

  // logits: one a token; text: what the penalty is for, ids outside of the logits count for
  // nothing. Greedy ties go to the smaller id. Same seed and logits, same tokens, on every machine
  // (own uniform draw from mt19937_64).
  TokenId Pick(std::span<const double> logits, std::span<const TokenId> text = {});

 private:
  TokenId Draw(std::span<const double> logits);

  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace polyveil::model
