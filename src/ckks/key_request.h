// What a circuit needs to run: declared before key generation, each key truncated to the level of
// its use.
#pragma once

#include <set>
#include <utility>

#include "base/int_types.h"

namespace polyveil::ckks {

// Galois elements of automorphisms X -> X^g: rotation by r slots to the left is 5^r mod 2N,
// conjugation is 2N - 1. Each entry is one key; a key of a level serves all levels below, slower
// than one of their own (digit_plan.h). PlanKeys (key_plan.h) thins a request out.
struct KeyRequest {
  std::set<std::pair<int, int>> rotations;  // (rotation, reduced to [1, slots); level)
  std::set<int> relinearization_levels;
  std::set<int> conjugation_levels;
  bool encapsulation = false;  // the two keys of ModRaise (ePrint 2022/024)

  void AddRotation(int rotation, int slots, int level);  // any rotation; 0 mod slots needs no key
  void AddRelinearization(int level);
  void AddConjugation(int level);
  void Merge(const KeyRequest& other);
  // Number of keys.
  int count() const;

  bool operator==(const KeyRequest&) const = default;
};

}  // namespace polyveil::ckks
