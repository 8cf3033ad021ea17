// Baby-step giant-step split of a set of rotations, chosen by cost.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "ckks/parameters.h"

namespace polyveil::circuits {

// Diagonal index = giant + baby; each index of the input appears once.
struct BsgsSplit {
  // giant rotation -> (baby rotation, the diagonal's index in the matrix)
  std::map<int, std::map<int, int>> giants;

  std::vector<int> Babies() const;            // distinct, 0 included where used
  std::vector<int> NonzeroRotations() const;  // that need keys
};

// `indices`: distinct modulo 2^log_period. baby_steps > 0 fixes the number of baby steps (in units
// of the indices' common stride); 0 minimises the estimated time at `level`. Deterministic: client
// and server must agree.
BsgsSplit SplitRotations(const ckks::Parameters& params, std::span<const int> indices,
                         int log_period, int level, int baby_steps);

}  // namespace polyveil::circuits
