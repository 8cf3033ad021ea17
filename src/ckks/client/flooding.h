// Noise flooding: what numbers of decrypted values go through before they enter a file that others
// may read. Their noise depends on the secret key; whoever has the ciphertexts and enough of them
// finds the key (IND-CPA-D, ePrint 2020/1533). docs/decisions/0025-sharing.md.
#pragma once

#include <span>

#include "base/csprng.h"
#include "base/result.h"

namespace polyveil::ckks {

class Flooding {
 public:
  static constexpr int kMinBits = 30, kMaxBits = 128;

  // bits: of statistical security against whoever sees all that is flooded. queries: decryptions
  // that numbers are taken of, an upper bound. Errors: kOutOfRange.
  static Result<Flooding> Create(int bits, u64 queries);

  // Of the normal distribution that is added: sqrt(12 queries) 2^(bits / 2) noise.
  // Source: Li, Micciancio, Schultz, Sorrell 2022, ePrint 2022/816, section 5.
  double Sigma(double noise) const { return factor_ * noise; }
  int bits() const { return bits_; }
  u64 queries() const { return queries_; }

  // Adds it to each of a decryption's values, in place, and rounds to a power of two near
  // sigma / 1024: the last bits of a sum of doubles would tell of its terms.
  // noise: no less than the Euclidean norm of the values' errors. Nothing is changed, and nothing
  // may be shown, after an error: kOutOfRange (bits without a bound on noise, a value that is no
  // number, more decryptions than stated).
  Status Flood(std::span<double> values, double noise);
  Result<double> Flood(double value, double noise);

 private:
  Flooding(int bits, u64 queries);
  double Normal();

  int bits_;
  u64 queries_, used_ = 0;
  double factor_;
  Prng random_ = Prng::FromSystem("noise flooding");
};

}  // namespace polyveil::ckks
