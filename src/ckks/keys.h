// Secret and evaluation keys. Evaluation keys are public; the secret key and everything that reads it live in
// secret_key.h, key_generator.h, encryptor.h and decryptor.h, which no server target links (pv_ckks_client).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// Switches from a secret s' to s (hybrid, one row per digit).
// Shape: b and a digits(level) x (limbs(level) + p_count) x N, NTT form. `a` is expanded from `seed`; on the wire
// and on disk only b and the seed exist.
struct KeySwitchKey {
  int level = -1;
  std::array<uint8_t, 32> seed{};
  std::vector<ring::RnsPoly> b, a;

  size_t bytes() const;
};

struct EvaluationKeys {
  std::optional<KeySwitchKey> relinearization;
  std::optional<KeySwitchKey> conjugation;
  std::map<int, KeySwitchKey> rotations;  // by rotation in [1, slots)
  // ModRaise: from the dense secret to the sparse one over q0 * P', and back over QP at the highest level.
  std::optional<KeySwitchKey> to_sparse, to_dense;

  // kMissingKey names the rotation and both levels.
  Result<const KeySwitchKey*> FindRotation(int rotation, int level) const;
  Status Covers(const KeyRequest& request) const;
  size_t bytes() const;
};

}  // namespace polyveil::ckks
