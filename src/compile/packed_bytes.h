// Bytes of what travels.
#pragma once

#include <bit>

#include "ckks/parameters.h"

namespace polyveil::compile {

// Of a packed polynomial of limbs(level) limbs.
inline size_t PackedBytes(const ckks::Parameters& params, int level) {
  size_t bits = 0;
  for (int i = 0; i < params.limbs(level); ++i) bits += std::bit_width(params.q(i).q);
  return bits * params.n() / 8;
}

}  // namespace polyveil::compile
