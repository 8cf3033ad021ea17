// Random ring elements. Secret values come as signed integers from a Prng, public uniform residues
// from a seed; both are deterministic for a given seed, on every backend and machine.
#pragma once

#include <span>
#include <string_view>

#include "base/csprng.h"
#include "ring/modulus.h"

namespace polyveil::ring {

inline constexpr double kNoiseSigma = 3.2;
inline constexpr i64 kNoiseBound = 19;  // floor(6 sigma)

// Uniform in {-1, 0, 1}.
void SampleTernary(Prng& prng, std::span<i64> out);
// Exactly `weight` coefficients are -1 or 1, at uniform positions. Constant time in the positions;
// cost weight * n. Requires weight <= n, n a power of two.
void SampleSparseTernary(Prng& prng, size_t weight, std::span<i64> out);
// Discrete Gaussian, sigma = 3.2, cut at 6 sigma (|x| <= 19), by a constant-time table scan with
// 63-bit probabilities.
void SampleGaussian(Prng& prng, std::span<i64> out);

// Uniform in [0, q): the accepted words of the stream (seed, domain, index), rejected at or above
// the largest multiple of q below 2^64, each mod q. The same words are the same residues forever
// (wire format).
void SampleUniform(const Seed& seed, std::string_view domain, u64 index, const Modulus& q,
                   std::span<u64> out);

// The same residues in pieces: each Fill continues where the last one ended. Not thread-safe.
class UniformResidues {
 public:
  UniformResidues(const Seed& seed, std::string_view domain, u64 index, const Modulus& q)
      : stream_(seed, domain, index), q_(q) {}
  void Fill(std::span<u64> out);

 private:
  UniformStream stream_;
  Modulus q_;
};

// Signed values (|x| < q) as residues; constant time.
void SignedToResidues(std::span<const i64> in, const Modulus& q, std::span<u64> out);

}  // namespace polyveil::ring
