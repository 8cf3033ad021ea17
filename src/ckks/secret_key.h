// The client's side of the scheme (library pv_ckks_client, never linked by server targets).
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/csprng.h"
#include "base/progress.h"
#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/encoder.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// Dense ternary main secret and the sparse ephemeral secret, both expanded from one 32-byte master seed that is wiped on destruction:
// the file of a secret key is this seed and the parameters' digest.
class SecretKey {
 public:
  static SecretKey Generate(ParametersPtr params);  // seed from the operating system
  static SecretKey FromSeed(ParametersPtr params, const std::array<uint8_t, 32>& seed);
  ~SecretKey();
  SecretKey(SecretKey&&) noexcept;
  SecretKey& operator=(SecretKey&&) noexcept;

  const ParametersPtr& params() const;
  const std::array<uint8_t, 32>& seed() const;
  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  SecretKey();
  std::unique_ptr<Impl> impl_;
};

// A fresh symmetric ciphertext whose c1 is expanded from a seed: half the bytes on the wire.
struct SeededCiphertext {
  ring::RnsPoly c0;
  std::array<uint8_t, 32> seed{};
  int level = 0;
  double scale = 1;
};
// Public: the server expands with this (declared in ckks/seeded.h so that it links without the client library).

class Encryptor {
 public:
  explicit Encryptor(const SecretKey& key);
  SeededCiphertext Encrypt(const Plaintext& plaintext) const;
};

class Decryptor {
 public:
  explicit Decryptor(const SecretKey& key);
  Plaintext Decrypt(const Ciphertext& ciphertext) const;
};

class KeyGenerator {
 public:
  explicit KeyGenerator(const SecretKey& key);
  // One key at a time, so that a caller can write each to disk and never hold them all. `a` is left empty (seed only)
  // unless expanded by ExpandKey (ckks/seeded.h).
  KeySwitchKey Rotation(int rotation, int level) const;
  KeySwitchKey Relinearization(int level) const;
  KeySwitchKey Conjugation(int level) const;
  KeySwitchKey ToSparse() const;
  KeySwitchKey ToDense() const;
  // All of a request, expanded; for tests and in-process use.
  Result<EvaluationKeys> Generate(const KeyRequest& request, Progress* progress = nullptr) const;
};

}  // namespace polyveil::ckks
