#include "ring/samplers.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/check.h"
#include "base/secure_memory.h"
#include "ring/kernels.h"

namespace polyveil::ring {
namespace {

constexpr size_t kBatch = 512;

// thresholds[k] = floor(2^63 * P(|x| <= k)), k < kNoiseBound, of the discrete Gaussian exp(-x^2 /
// (2 * 3.2^2)) cut at kNoiseBound, computed with 60 decimal digits.
constexpr std::array<u64, kNoiseBound> kGaussianThresholds = {
    1149872836518706973u, 3340023669317320718u, 5231742859181312982u, 6713673040852152709u,
    7766573333558595572u, 8445050410543775182u, 8841576294031517592u, 9051758687454227207u,
    9152802460441190481u, 9196859083481262423u, 9214281214904026344u, 9220529772758650828u,
    9222562348483741346u, 9223162004373033245u, 9223322456656299389u, 9223361395058736926u,
    9223369965413244325u, 9223371676247247624u, 9223371985993021523u,
};

// 1 when a >= b, for a, b < 2^63; no branch.
inline u64 GreaterEqual(u64 a, u64 b) { return 1 ^ ((a - b) >> 63); }

// All ones when a == b; no branch.
inline u64 EqualMask(u64 a, u64 b) {
  const u64 difference = a ^ b;
  return ((difference | (u64{0} - difference)) >> 63) - 1;
}

i64 GaussianFromWord(u64 word) {
  const u64 uniform = word >> 1;
  u64 magnitude = 0;
  for (const u64 threshold : kGaussianThresholds) magnitude += GreaterEqual(uniform, threshold);
  const u64 sign = u64{0} - (word & 1);
  return static_cast<i64>((magnitude ^ sign) - sign);
}

}  // namespace

void SampleTernary(Prng& prng, std::span<i64> out) {
  SecureVector<std::uint8_t> bytes(kBatch);
  size_t used = kBatch;
  for (i64& value : out) {
    std::uint8_t byte;
    do {
      if (used == kBatch) {
        prng.Fill(bytes.data(), kBatch);
        used = 0;
      }
      byte = bytes[used++];
    } while (byte == 255);                     // 255 = 3 * 85: the rest is exactly uniform mod 3
    const u32 third = (u32{byte} * 171) >> 9;  // byte / 3
    value = static_cast<i64>(byte - 3 * third) - 1;
  }
}

void SampleSparseTernary(Prng& prng, size_t weight, std::span<i64> out) {
  PV_CHECK(weight <= out.size() && out.size() > 1 && std::has_single_bit(out.size()),
           "weight {} of {} coefficients (a power of two)", weight, out.size());
  const int shift = 64 - std::countr_zero(out.size());
  SecureVector<u64> positions;
  positions.reserve(weight);
  while (positions.size() < weight) {
    const u64 candidate = prng.Next64() >> shift;
    u64 taken = 0;
    for (const u64 position : positions) taken |= EqualMask(position, candidate);
    if (taken == 0)
      positions.push_back(candidate);  // that a repeat happened is independent of the result
  }
  std::ranges::fill(out, 0);
  for (const u64 position : positions) {
    const u64 sign = (prng.Next64() & 1) * 2 - 1;  // 1 or -1
    for (size_t j = 0; j < out.size(); ++j) {
      const u64 hit = EqualMask(j, position);
      out[j] = static_cast<i64>(static_cast<u64>(out[j]) | (hit & sign));
    }
  }
}

void SampleGaussian(Prng& prng, std::span<i64> out) {
  SecureVector<u64> words(std::min(kBatch, out.size()));
  for (size_t at = 0; at < out.size(); at += kBatch) {
    const auto part = out.subspan(at, std::min(kBatch, out.size() - at));
    prng.Fill(words.data(), part.size() * sizeof(u64));
    for (size_t j = 0; j < part.size(); ++j) part[j] = GaussianFromWord(words[j]);
  }
}

void SampleUniform(const Seed& seed, std::string_view domain, u64 index, const Modulus& q,
                   std::span<u64> out) {
  UniformResidues(seed, domain, index, q).Fill(out);
}

void UniformResidues::Fill(std::span<u64> out) {
  constexpr size_t kPart = 1024;  // words that stay in the L1 cache between cipher and reduction
  const Kernels& kernels = ActiveKernels();
  while (!out.empty()) {
    // In place: accepted words move down over the rejected ones, then the rest is filled again.
    const auto part = out.first(std::min(out.size(), kPart));
    stream_.Fill(part);
    out = out.subspan(kernels.reduce_uniform(part.data(), part.data(), part.size(), q_));
  }
}

void SignedToResidues(std::span<const i64> in, const Modulus& q, std::span<u64> out) {
  PV_CHECK(in.size() == out.size(), "{} values into {} words", in.size(), out.size());
  for (size_t j = 0; j < in.size(); ++j) out[j] = q.FromSigned(in[j]);
}

}  // namespace polyveil::ring
