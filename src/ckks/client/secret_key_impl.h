// What a secret key holds (internal to pv_ckks_client).
#pragma once

#include <array>
#include <span>
#include <utility>

#include "base/secure_memory.h"
#include "ckks/client/secret_key.h"
#include "ring/rns_poly.h"

namespace polyveil::ckks {

struct SecretKey::Impl {
  Impl(ParametersPtr params, const Seed& seed);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // NTT form of the dense secret modulo table j of Q, then of P.
  const u64* dense_ntt(size_t j) const { return dense_residues.ptr(j); }

  // Kept out of swap where the system allows it.
  std::array<std::pair<const void*, size_t>, 4> Secrets() const;

  ParametersPtr params;
  Seed seed;
  SecureVector<i64> dense, sparse;  // coefficients
  ring::RnsPoly dense_residues;     // (q_count + p_count) x N, NTT form
};

// Secret scratch words: wiped when they go.
struct SecretBuffer : Buffer {
  using Buffer::Buffer;
  ~SecretBuffer() { Wipe(); }
};

// NTT form of signed coefficients (|x| < q).
void TransformSigned(std::span<const i64> in, const ring::NttTables& tables, u64* out);

}  // namespace polyveil::ckks
