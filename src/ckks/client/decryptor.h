// Decryption (library pv_ckks_client).
#pragma once

#include "ckks/ciphertext.h"
#include "ckks/client/secret_key.h"

namespace polyveil::ckks {

// The key must outlive the decryptor. Thread-safe.
class Decryptor {
 public:
  explicit Decryptor(const SecretKey& key) : key_(&key) {}

  // c0 + c1 s (+ c2 s^2), at the ciphertext's level and scale. The result contains the noise: it
  // must not leave the client without flooding or rounding (IND-CPA only).
  Plaintext Decrypt(const Ciphertext& ciphertext) const;

 private:
  const SecretKey* key_;
};

}  // namespace polyveil::ckks
