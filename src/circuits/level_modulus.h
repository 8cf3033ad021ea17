// The factor that a rescale from `level` divides the scale by.
#pragma once

#include "ckks/parameters.h"

namespace polyveil::circuits {

inline double LevelModulus(const ckks::Parameters& params, int level) {
  double product = 1;
  for (const int index : params.level(level).primes)
    product *= static_cast<double>(params.q(index).q);
  return product;
}

}  // namespace polyveil::circuits
