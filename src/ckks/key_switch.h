// Hybrid key switching (ePrint 2019/688 with the exact base conversion of ePrint 2018/117): the
// tables that depend on the parameters alone, and the steps that the evaluator composes.
// Internal to the evaluator.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "ckks/evaluator.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"
#include "ring/base_convert.h"

namespace polyveil::ckks {

// A run of words of extended limb j.
struct Block {
  size_t limb, begin, words;
};
// Works on the block's words of two accumulators (which start at `begin`) while they are in the L1
// cache.
using BlockEpilogue = std::function<void(const Block& block, u64* acc0, u64* acc1)>;

// A key and the index table of its automorphism.
struct AutomorphismKey {
  const KeySwitchKey* key;
  std::shared_ptr<const std::vector<u32>> permutation;
};

class KeySwitcher {
 public:
  explicit KeySwitcher(ParametersPtr params);

  // ModUp without the last transform: digits[i] in coefficient form, the extended limbs less the
  // digit's own. c: NTT form, limbs(level) limbs. `special`: the number of special primes, of the
  // key that will multiply.
  std::vector<ring::RnsPoly> ModUp(const ring::RnsPoly& c, int level, int special) const;
  // The transform of every limb that ModUp left in coefficient form, in place.
  void TransformDigits(std::vector<ring::RnsPoly>& digits, int level, int special) const;
  // Special primes of a polynomial over QP at this level.
  int SpecialOf(const ring::RnsPoly& poly, int level) const {
    return static_cast<int>(poly.limbs()) - params_->limbs(level);
  }

  // (sum_i d_i b_i, sum_i d_i a_i) over QP, d_i being the digits of c[k]; with `permutation`, of
  // the rotated c[k]. Transforms the digits limb by limb on the way. One key for all c: each of its
  // limbs is read, or expanded, once. epilogues: none, or one for each c.
  // Requires a kGadget key of at least this level, and digits of its special primes.
  std::vector<ExtendedCiphertext> InnerProductMany(
      std::span<const ring::RnsPoly* const> c, std::span<std::vector<ring::RnsPoly>> digits,
      int level, const KeySwitchKey& key, const u32* permutation,
      std::span<const BlockEpilogue> epilogues = {}) const;
  // The products with several keys of the same special primes, limb by limb, for the epilogue
  // alone: no product is kept beyond its block. epilogue(block, acc0, acc1, permutation of the
  // key).
  using KeyEpilogue =
      std::function<void(const Block& block, u64* acc0, u64* acc1, const u32* permutation)>;
  void StreamInnerProducts(const ring::RnsPoly& c, std::vector<ring::RnsPoly>& digits, int level,
                           std::span<const AutomorphismKey> keys,
                           const KeyEpilogue& epilogue) const;
  // The product with one key from digits in NTT form.
  ExtendedCiphertext InnerProductHoisted(const ring::RnsPoly& c,
                                         const std::vector<ring::RnsPoly>& digits, int level,
                                         const KeySwitchKey& key, const u32* permutation,
                                         const BlockEpilogue& epilogue = {}) const;

  // round(poly / P), and round(poly / (P q_level)) when `rescale`, for one or two polynomials over
  // QP: results have limbs(level), or limbs(level - 1), limbs. The epilogue's accumulators are the
  // results' limbs (acc1 null where there is one polynomial only).
  std::vector<ring::RnsPoly> ModDown(std::span<const ring::RnsPoly* const> polys, int level,
                                     bool rescale, const BlockEpilogue& epilogue = {}) const;
  // round(poly / q_last) with `limbs` limbs, in place: one limb fewer.
  void Rescale(std::vector<ring::RnsPoly>& polys, size_t limbs) const;

  // P mod q_j, P of `special` primes.
  u64 p_mod_q(int special, size_t j) const { return p_mod_q_[special][j]; }
  // NTT-form table of X -> X^g, built on first use.
  std::shared_ptr<const std::vector<u32>> Permutation(u64 galois_element) const;
  size_t permutation_bytes() const;  // of the tables built so far

 private:
  struct LevelTables {
    std::vector<ring::BaseConverter> mod_up;        // per digit: its primes -> all others of QP
    std::unique_ptr<ring::BaseConverter> mod_down;  // P -> Q
    std::unique_ptr<ring::BaseConverter> mod_down_rescale;  // P and the last q -> the other q
  };

  const LevelTables& Level(int level, int special) const;
  LevelTables MakeLevel(int level, int special) const;
  void CheckKey(const KeySwitchKey& key, const std::vector<ring::RnsPoly>& digits, int level,
                int special) const;
  // One polynomial's share in a product with a key.
  struct Share {
    const ring::RnsPoly* c;
    const std::vector<ring::RnsPoly>* digits;
    ExtendedCiphertext* sum;        // null: for the epilogue alone
    const BlockEpilogue* epilogue;  // may be null
  };
  void InnerProductLimb(size_t j, std::span<const Share> shares, int level, const KeySwitchKey& key,
                        const u32* permutation) const;
  void InnerProductBlock(const Block& block, const Share& share, int level, int special,
                         const u32* permutation, const u64* const* b, const u64* const* a,
                         u64* scratch) const;
  void StreamLimb(size_t j, const Share& share, int level, std::span<const AutomorphismKey> keys,
                  const KeyEpilogue& epilogue) const;
  void TransformLimb(size_t j, std::vector<ring::RnsPoly>& digits, int level, int special) const;

  ParametersPtr params_;
  // By level and special primes, each filled once, on first use.
  mutable std::vector<LevelTables> levels_;
  mutable std::unique_ptr<std::once_flag[]> level_once_;
  std::vector<std::vector<u64>> p_mod_q_;    // [special][j]
  std::vector<std::vector<u64>> p_inverse_;  // P^-1 mod q_j
  std::vector<std::vector<u64>> q_inverse_;  // [last][j]: q_last^-1 mod q_j, j < last
  mutable std::shared_mutex permutations_mutex_;
  mutable std::map<u64, std::shared_ptr<const std::vector<u32>>> permutations_;
};

}  // namespace polyveil::ckks
