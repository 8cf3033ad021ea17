// Twiddle factors of the negacyclic NTT for one (N, q).
//
// Order: after forward_ntt, word j holds a(psi^(2 * rev(j) + 1)), rev reversing log2(N) bits and
// psi being the primitive 2N-th root `psi()`. inverse_ntt undoes it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "base/buffer.h"
#include "ring/modulus.h"

namespace polyveil::ring {

inline constexpr size_t kMinRingDegree = size_t{1} << 10;
inline constexpr size_t kMaxRingDegree = size_t{1} << 17;

// The arrays that a backend reads; all 64-byte aligned. The factor of block i in the stage with m
// blocks is the root (forward psi, inverse psi^-1) to the bit-reversed exponent of m + i; call it
// f(m + i). Because f(2x)^2 = f(x) and f(2x + 1) = f(2x) f(1), the last two stages need no tables
// of their own length: a transform of 512 KB reads 0.5 MB of factors instead of 1 MB, and these
// usually come from memory.
struct TwiddleTable {
  // N/2 words: f(x) for x < N/4; from N/4 on f(N/4 + 2i); from 3N/8 on f(N/2 + 4i), i < N/8.
  // The factors of the last two stages: f(N/4 + 2i + c) = f(N/4 + 2i) unit[c], c < 2, and
  // f(N/2 + 4i + c) = f(N/2 + 4i) unit[c], c < 4.
  const u64* power;
  const u64* quotient;  // floor(power * 2^52 / q)
  ShoupFactor unit[4];  // 1, f(1), f(2), f(3)
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
  // f(x), 1 <= x < N, of either transform for backends that compute in doubles: word x holds the
  // bits of the representative in (-q/2, q/2]. Made on first use (8 N bytes each). Thread-safe.
  const u64* forward_reals() const { return Reals(forward_, &forward_reals_); }
  const u64* inverse_reals() const { return Reals(inverse_, &inverse_reals_); }
  // f(x) of the forward transform for any 1 <= x < N (smaller rings use the first ones).
  ShoupFactor ForwardFactor(size_t x) const { return FactorOf(forward_, x); }
  size_t bytes() const { return (storage_.size() + reals_words_) * sizeof(u64); }

 private:
  struct LazyReals {
    std::once_flag once;
    Buffer words;
  };

  ShoupFactor FactorOf(const TwiddleTable& table, size_t x) const;
  const u64* Reals(const TwiddleTable& table, LazyReals* reals) const;
  void Fill(u64 root, u64* words, TwiddleTable* table);
  void FillRoots(u64 root, u64 first, u64* out) const;

  size_t n_;
  int log_n_;
  Modulus modulus_;
  u64 psi_;
  u64 n_inverse_;
  Buffer storage_;
  TwiddleTable forward_;
  TwiddleTable inverse_;
  mutable LazyReals forward_reals_;
  mutable LazyReals inverse_reals_;
  mutable std::atomic<size_t> reals_words_ = 0;
};

}  // namespace polyveil::ring
