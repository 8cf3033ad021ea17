// Conversion of RNS residues from one list of moduli to another, in coefficient form.
//
// With Q = prod q_i and x_i = [a (Q/q_i)^-1] mod q_i, a = sum_i x_i (Q/q_i) - u Q.
//   Exact (HPS): u = round(sum x_i / q_i) in double: a's representative in [-Q/2, Q/2), exact
//   unless |a| is
//     within about Q * 2^-45 of Q/2 (then either sign may come out, still right mod Q).
//   Fast (BEHZ): u is left out: the result is a + e Q, 0 <= e < count.
// Source: Halevi, Polyakov, Shoup 2018, ePrint 2018/117, section 2.2; Bajard et al. 2016, ePrint
// 2016/510.
#pragma once

#include <span>
#include <vector>

#include "ring/kernels.h"

namespace polyveil::ring {

enum class Conversion { kExact, kFast };

class BaseConverter {
 public:
  // from: 1..63 moduli, to: any number; all distinct within each list (a modulus may be in both).
  BaseConverter(std::span<const Modulus> from, std::span<const Modulus> to,
                Conversion conversion = Conversion::kExact);

  size_t from_count() const { return from_.size(); }
  size_t to_count() const { return to_.size(); }

  // (Q/q_i)^-1 mod q_i: pass it as the scale of inverse_ntt and call ConvertPremultiplied.
  u64 premultiplier(size_t i) const { return premultipliers_[i]; }
  // Q mod to_k, for callers that combine the result.
  u64 product_mod(size_t k) const { return product_mod_[k]; }

  // out[k] = a mod to_k. in[i]: residues of a mod from_i, out[k]: n words each; no output may be an
  // input. Cost: from * n Shoup products, then from * to * n multiply-accumulates. Runs on the pool
  // when n is large.
  void Convert(u64* const* out, const u64* const* in, size_t n) const;
  // The same; in[i] already multiplied by premultiplier(i).
  void ConvertPremultiplied(u64* const* out, const u64* const* in, size_t n) const;

 private:
  void ConvertBlock(u64* const* out, const u64* const* in, size_t begin, size_t words,
                    bool premultiplied) const;

  std::vector<Modulus> from_;
  std::vector<Modulus> to_;
  Conversion conversion_;
  std::vector<u64> premultipliers_;
  std::vector<double> inverses_;  // 1 / q_i
  std::vector<u64> factors_;      // [to][from (+1: -Q when exact)]
  std::vector<u64> product_mod_;
};

}  // namespace polyveil::ring
