// Symmetric encryption (library pv_ckks_client).
#pragma once

#include "ckks/ciphertext.h"
#include "ckks/client/secret_key.h"
#include "ckks/seeded.h"

namespace polyveil::ckks {

// The key must outlive the encryptor. Thread-safe.
class Encryptor {
 public:
  explicit Encryptor(const SecretKey& key) : key_(&key) {}

  // c0 = -c1 s + e + m with c1 expanded from a fresh seed, e Gaussian (sigma 3.2, cut at 6 sigma).
  // Level/scale: the plaintext's. Requires !plaintext.with_p. Noise: |slot error| <= 6 sigma N,
  // about 4 sigma sqrt(N) in the worst slot (EncryptNoiseWithinBound).
  SeededCiphertext Encrypt(const Plaintext& plaintext) const;

 private:
  const SecretKey* key_;
};

}  // namespace polyveil::ckks
