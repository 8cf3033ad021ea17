// Random streams. Two kinds, never mixed:
//   Prng           secret randomness (keys, noise): ChaCha20 of libsodium; state and buffer are
//   wiped; UniformStream  public expansion of a published seed: AES-256-CTR of OpenSSL, several
//   GB/s.
// A stream is named by (seed, domain, index); the stream key is BLAKE2b-256 of the three, so that
// no two objects share one. Both are deterministic and the same on every machine.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "base/int_types.h"

namespace polyveil {

using Seed = std::array<std::uint8_t, 32>;

// 32 bytes from the operating system.
Seed RandomSeed();
// BLAKE2b-256 over (seed, domain, index): a child seed, or the key of a stream.
Seed DeriveSeed(const Seed& seed, std::string_view domain, u64 index = 0);

// Secret random stream. Not thread-safe; one per object and thread.
class Prng {
 public:
  Prng(const Seed& seed, std::string_view domain, u64 index = 0);
  // A stream with a fresh seed from the operating system.
  static Prng FromSystem(std::string_view domain);
  Prng(Prng&& other) noexcept;
  Prng& operator=(Prng&&) = delete;
  Prng(const Prng&) = delete;
  ~Prng();

  u64 Next64();
  void Fill(void* out, size_t bytes);

 private:
  void Refill();
  static constexpr size_t kBufferBytes = 4096;
  Seed key_;
  u64 block_ = 0;  // next ChaCha20 block (64 bytes)
  size_t used_ = kBufferBytes;
  alignas(64) std::array<std::uint8_t, kBufferBytes> buffer_;
};

// Public random stream. Not thread-safe.
class UniformStream {
 public:
  UniformStream(const Seed& seed, std::string_view domain, u64 index = 0);
  UniformStream(const UniformStream&) = delete;
  UniformStream& operator=(const UniformStream&) = delete;
  ~UniformStream();

  // The next words of the stream (little endian on every machine).
  void Fill(std::span<u64> out);

 private:
  void* cipher_;  // EVP_CIPHER_CTX
};

}  // namespace polyveil
