// Evaluation keys (public). The secret key and everything that reads it live in client/, which no
// server target links (pv_ckks_client).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/csprng.h"
#include "base/memory_report.h"
#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/key_request.h"
#include "ckks/key_shape.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// Switches from a secret s' to s: b_i = -a_i s + e_i + P g_i s', g_i = 1 mod the primes of digit i
// and 0 mod the others (hybrid key switching, ePrint 2019/688).
// Shape: b and a `rows` x `limbs` x N of ShapeOf(kind, level), NTT form. `a` follows from `seed`:
// on the wire and on disk only b and the seed exist, and a compact key has no other storage in
// memory either. Products read both through KeyLimbReader (key_limb.h).
struct KeySwitchKey {
  KeyKind kind = KeyKind::kGadget;
  int level = -1;
  Seed seed{};
  std::vector<ring::RnsPoly> b, a;  // a: empty when compact

  bool compact() const { return a.empty(); }
  size_t bytes() const;
};

struct EvaluationKeys {
  std::map<int, KeySwitchKey> relinearization, conjugation;  // by level
  std::map<int, std::map<int, KeySwitchKey>> rotations;      // by rotation in [1, slots) and level
  // ModRaise: from the dense secret to the sparse one over q0 * P', and back at the highest level.
  std::optional<KeySwitchKey> to_sparse, to_dense;

  // The key of at least this level that switches fastest at it. `special` > 0: only keys with that
  // many special primes (all keys of a hoisted group share it).
  // Errors: kMissingKey names the rotation and both levels (or numbers of primes).
  Result<const KeySwitchKey*> FindRotation(const Parameters& params, int rotation, int level,
                                           int special = 0) const;
  Result<const KeySwitchKey*> FindRelinearization(const Parameters& params, int level) const;
  Result<const KeySwitchKey*> FindConjugation(const Parameters& params, int level,
                                              int special = 0) const;
  // The number of special primes with which most rotations have a key of at least this level, the
  // fastest of several: the class of a hoisted group that names none. 0: there is no key.
  int CommonSpecial(const Parameters& params, int level) const;
  // kMissingKey for the first key of `request` that is absent: as many special primes, and at least
  // the level.
  Status Covers(const Parameters& params, const KeyRequest& request) const;
  // fn(key) for every key.
  template <typename Fn>
  void ForEach(Fn&& fn) const {
    ForEachOf(*this, fn);
  }
  template <typename Fn>
  void ForEach(Fn&& fn) {
    ForEachOf(*this, fn);
  }
  size_t bytes() const;
  // By kind and storage.
  void Report(MemoryReport& report) const;

 private:
  template <typename Keys, typename Fn>
  static void ForEachOf(Keys& keys, Fn& fn) {
    for (auto* by_level : {&keys.relinearization, &keys.conjugation})
      for (auto& [level, key] : *by_level) fn(key);
    for (auto* key : {&keys.to_sparse, &keys.to_dense})
      if (*key) fn(**key);
    for (auto& [rotation, by_level] : keys.rotations)
      for (auto& [level, key] : by_level) fn(key);
  }
};

}  // namespace polyveil::ckks
