// Which keys to make for the uses of a program: a key per rotation and level would be fastest and
// largest, one per rotation at its highest level smallest and slowest.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "ckks/key_request.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// How often each key switch happens. Counts are of one unit of work (a token, say).
struct KeyUses {
  std::map<std::pair<int, int>, int> rotations;       // (rotation in [1, slots), level) -> count
  std::map<int, int> relinearizations, conjugations;  // level -> count
  int mod_raises = 0;
  // Keys of hoisted groups and of circuits that state theirs: made with the special primes of their
  // level, whatever else is there.
  KeyRequest required;

  void AddRotation(int rotation, int slots, int level, int count = 1);
  void AddRelinearization(int level, int count = 1) { relinearizations[level] += count; }
  void AddConjugation(int level, int count = 1) { conjugations[level] += count; }
};

// One key of several with the same special primes and purpose, the highest, serves all of them.
KeyRequest PlanKeys(const Parameters& params, const KeyRequest& request);

// The required keys; for each rotation, relinearisation and conjugation a key that reaches its
// highest use; then, while the expanded keys stay within `byte_budget`, further keys at lower
// levels, those first that save most time (KeySwitchCost) per byte. Levels in [0, max_level()].
// The result may exceed the budget by what is needed anyway. Deterministic.
KeyRequest PlanKeys(const Parameters& params, const KeyUses& uses, size_t byte_budget);

// Which of the keys at these levels switches fastest at level `at`, as EvaluationKeys finds it; -1
// when none reaches it.
int FastestKey(const Parameters& params, const std::set<int>& levels, int at);

// Bytes of the keys of a request, expanded.
size_t ExpandedKeyBytes(const Parameters& params, const KeyRequest& request);

}  // namespace polyveil::ckks
