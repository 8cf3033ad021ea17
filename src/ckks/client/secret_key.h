// The secret of a client (library pv_ckks_client, never linked by server targets).
#pragma once

#include <memory>

#include "base/csprng.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// Dense ternary main secret s and the sparse ephemeral secret s' of ModRaise, both expanded from
// one 32-byte master seed; all of it is wiped on destruction. The file of a secret key is this seed
// and the parameters' digest.
class SecretKey {
 public:
  static SecretKey Generate(ParametersPtr params);  // seed from the operating system
  static SecretKey FromSeed(ParametersPtr params, const Seed& seed);
  ~SecretKey();
  SecretKey(SecretKey&&) noexcept;
  SecretKey& operator=(SecretKey&&) noexcept;

  const ParametersPtr& params() const;
  const Seed& seed() const;
  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  SecretKey();
  std::unique_ptr<Impl> impl_;
};

}  // namespace polyveil::ckks
