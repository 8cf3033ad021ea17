// Twiddle factors of the negacyclic NTT for one (N, q).
//
// Order: after forward_ntt, word j holds a(psi^(2 * rev(j) + 1)), rev reversing log2(N) bits and
// psi being the primitive 2N-th root `psi()`. inverse_ntt undoes it.
#pragma once

#include <memory>

#include "base/buffer.h"
#include "ring/modulus.h"

namespace polyveil::ring {

inline constexpr size_t kMinRingDegree = size_t{1} << 10;
inline constexpr size_t kMaxRingDegree = size_t{1} << 17;

// The arrays that a backend reads; all 64-byte aligned.
struct TwiddleTable {
  // power[m + i], m a power of two below N, i < m: the factor of block i in the stage with m
  // blocks, which is the root at bit-reversed exponent m + i (forward psi, inverse psi^-1).
  const u64* power;
  const u64* quotient;  // floor(power * 2^52 / q)
};

class NttTables {
 public:
  // Shared tables of (n, q), built on first use and kept while someone holds them. Thread-safe.
  // Requires Modulus::Validate(q, n) ok.
  static std::shared_ptr<const NttTables> Get(size_t n, u64 q);

  NttTables(size_t n, const Modulus& modulus);

  size_t n() const { return n_; }
  int log_n() const { return log_n_; }
  const Modulus& modulus() const { return modulus_; }
  u64 psi() const { return psi_; }
  u64 n_inverse() const { return n_inverse_; }
  const TwiddleTable& forward() const { return forward_; }
  const TwiddleTable& inverse() const { return inverse_; }
  size_t bytes() const { return storage_.size() * sizeof(u64); }

 private:
  void Fill(u64 root, u64* words, TwiddleTable* table);

  size_t n_;
  int log_n_;
  Modulus modulus_;
  u64 psi_;
  u64 n_inverse_;
  Buffer storage_;
  TwiddleTable forward_;
  TwiddleTable inverse_;
};

}  // namespace polyveil::ring
