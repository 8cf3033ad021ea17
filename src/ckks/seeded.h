// Objects whose uniform half is a published 32-byte seed, and their expansion (public: no secret).
//
// Stream of limb words: SampleUniform(seed, domain, index) with domain "polyveil/ckks/ciphertext"
// and index = chain index of the prime for a ciphertext's c1; domain "polyveil/ckks/key" and index
// = row * 256 + chain index for a key's `a`, where q_j has chain index j, p_j 128 + j and the
// encapsulation prime 255. The residues are those of the NTT form. Part of the wire format.
#pragma once

#include <string_view>

#include "base/csprng.h"
#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

inline constexpr std::string_view kCiphertextDomain = "polyveil/ckks/ciphertext";
inline constexpr std::string_view kKeyDomain = "polyveil/ckks/key";
inline u64 KeyStreamIndex(size_t row, int chain_index) { return row * 256 + chain_index; }

// A fresh symmetric ciphertext whose c1 is expanded from a seed: half the bytes on the wire.
// Shape: c0 limbs(level) x N, NTT form.
struct SeededCiphertext {
  ring::RnsPoly c0;
  Seed seed{};
  int level = 0;
  double scale = 1;
};

// The full ciphertext. Errors: kMismatch (shape of c0 against level), kOutOfRange (level).
Result<Ciphertext> Expand(const Parameters& params, const SeededCiphertext& seeded);

// Fills key.a from key.seed; a no-op when `a` is there. Errors: kMismatch (shape of b against kind
// and level).
Status ExpandKey(const Parameters& params, KeySwitchKey& key);
Status ExpandKeys(const Parameters& params, EvaluationKeys& keys);
// Back to b and the seed: half the memory, and every use expands what it reads (key_limb.h).
void CompactKeys(EvaluationKeys& keys);

}  // namespace polyveil::ckks
