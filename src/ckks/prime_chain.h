// The primes and nominal scales of a chain (internal to Parameters).
#pragma once

#include <vector>

#include "base/result.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

struct PrimeChain {
  std::vector<u64> q;  // one per level, from level 0 upwards
  std::vector<u64> p;  // special primes: as many as any key of the chain may use
  u64 encapsulation = 0;
  std::vector<double> scales;  // nominal, one per level
};

// Chooses all primes, distinct, below 2^50. P, the base, EvalMod and CtS primes are the nearest
// free ones to their size, P first: it holds the largest, so that P exceeds every digit's product.
// Working and StC primes are chosen from the top so that scale(l-1) = scale(l)^2 / q_l stays next
// to 2^log_prime of the level: the error of each step is one prime gap, never accumulated.
// Errors: kInvalidArgument, kOutOfRange (too few primes).
Result<PrimeChain> ChoosePrimes(const ParametersSpec& spec);

}  // namespace polyveil::ckks
