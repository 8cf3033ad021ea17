// Evaluation keys from the secret key (library pv_ckks_client).
#pragma once

#include "base/progress.h"
#include "base/result.h"
#include "ckks/client/secret_key.h"
#include "ckks/key_request.h"
#include "ckks/keys.h"

namespace polyveil::ckks {

// The key must outlive the generator. Thread-safe; each key is made on the pool.
class KeyGenerator {
 public:
  explicit KeyGenerator(const SecretKey& key) : key_(&key) {}

  // One key at a time, so that a caller can write each to disk and never hold them all. `a` is left
  // empty (seed only) unless expanded by ExpandKey (ckks/seeded.h). Every call draws a fresh seed
  // and fresh noise. Requires 0 <= level <= max_level().
  KeySwitchKey Rotation(int rotation, int level) const;
  KeySwitchKey Relinearization(int level) const;
  KeySwitchKey Conjugation(int level) const;
  KeySwitchKey ToSparse() const;
  KeySwitchKey ToDense() const;
  // All of a request, expanded; for tests and in-process use. Errors: kCancelled, kOutOfRange (a
  // level above max_level(), both values named).
  Result<EvaluationKeys> Generate(const KeyRequest& request, Progress* progress = nullptr) const;

 private:
  const SecretKey* key_;
};

}  // namespace polyveil::ckks
