// What a circuit needs to run: declared before key generation, each key truncated to the level of
// its use.
#pragma once

#include <map>

#include "base/int_types.h"

namespace polyveil::ckks {

// Galois elements of automorphisms X -> X^g: rotation by r slots to the left is 5^r mod 2N,
// conjugation is 2N - 1.
struct KeyRequest {
  std::map<int, int> rotations;    // rotation, reduced to [1, slots) -> highest level of use
  int relinearization_level = -1;  // -1: not needed
  int conjugation_level = -1;
  bool encapsulation = false;  // the two keys of ModRaise (ePrint 2022/024)

  void AddRotation(int rotation, int slots, int level);  // any rotation; 0 mod slots needs no key
  void AddRelinearization(int level);
  void AddConjugation(int level);
  void Merge(const KeyRequest& other);
  // Number of keys.
  int count() const;
};

}  // namespace polyveil::ckks
