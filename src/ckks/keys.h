// Evaluation keys (public). The secret key and everything that reads it live in client/, which no
// server target links (pv_ckks_client).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/csprng.h"
#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// What a key switches, and so its moduli and rows.
enum class KeyKind : std::uint8_t {
  kGadget =
      0,  // s' -> s (rotation, conjugation, relinearisation): digits(level) rows over Q_level P
  kToSparse = 1,  // dense s -> sparse s': one row over q0 P' (<= 120 bits); level 0
  kToDense = 2,   // sparse s' -> dense s for a polynomial below q0: one row over Q p_0; max_level()
};

// Rows and moduli of a key, in the order of its limbs: Q limbs first.
struct KeyShape {
  int rows = 0;
  std::vector<const ring::NttTables*> tables;  // one per limb
  std::vector<int> chain_indices;              // q_j: j; p_j: 128 + j; P': 255

  size_t limbs() const { return tables.size(); }
  // Bytes of b alone, what is stored and sent, and of the expanded key.
  size_t seeded_bytes(size_t n) const { return rows * limbs() * n * sizeof(u64); }
  size_t expanded_bytes(size_t n) const { return 2 * seeded_bytes(n); }
};

// Requires 0 <= level <= max_level(); level is ignored unless kGadget.
KeyShape ShapeOf(const Parameters& params, KeyKind kind, int level);

// Switches from a secret s' to s: b_i = -a_i s + e_i + P g_i s', g_i = 1 mod the primes of digit i
// and 0 mod the others (hybrid key switching, ePrint 2019/688).
// Shape: b and a `rows` x `limbs` x N of ShapeOf(kind, level), NTT form. `a` is expanded from
// `seed`; on the wire and on disk only b and the seed exist.
struct KeySwitchKey {
  KeyKind kind = KeyKind::kGadget;
  int level = -1;
  Seed seed{};
  std::vector<ring::RnsPoly> b, a;

  size_t bytes() const;
};

struct EvaluationKeys {
  std::optional<KeySwitchKey> relinearization;
  std::optional<KeySwitchKey> conjugation;
  std::map<int, KeySwitchKey> rotations;  // by rotation in [1, slots)
  // ModRaise: from the dense secret to the sparse one over q0 * P', and back at the highest level.
  std::optional<KeySwitchKey> to_sparse, to_dense;

  // Errors: kMissingKey names the rotation and both levels.
  Result<const KeySwitchKey*> FindRotation(int rotation, int level) const;
  Result<const KeySwitchKey*> FindRelinearization(int level) const;
  Result<const KeySwitchKey*> FindConjugation(int level) const;
  // kMissingKey for the first key of `request` that is absent or too short.
  Status Covers(const KeyRequest& request) const;
  size_t bytes() const;
};

}  // namespace polyveil::ckks
