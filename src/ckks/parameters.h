// Parameters of RNS-CKKS: ring, chain of levels, key switching, and the security bound that they
// meet.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/digit_plan.h"
#include "ring/modulus.h"
#include "ring/ntt_tables.h"

namespace polyveil::ckks {

// What a level of the chain is for; the planner and the bootstrapper read it, arithmetic does not.
enum class LevelRole { kBase, kSlotsToCoeffs, kWorking, kEvalMod, kCoeffsToSlots };

// One line of the chain's description: `count` levels whose primes lie near 2^log_prime.
struct LevelGroup {
  LevelRole role;
  int count;
  int log_prime;
};

struct ParametersSpec {
  std::string name;
  int log_n = 16;
  std::vector<LevelGroup> chain;  // from level 0 upwards; the first group is kBase with count 1
  int special_primes = 9;         // primes of P in a key of the highest level (digit_plan.h)
  int log_special_prime = 50;
  int sparse_hamming_weight = 32;    // of the ephemeral secret of ModRaise (ePrint 2022/024)
  int log_encapsulation_prime = 50;  // P', the special prime of the encapsulation key
  bool insecure_for_tests =
      false;  // needed for log_n < 13 or a modulus above the bound; printed in every report
};

// The largest log2(QP) for 128-bit classical security with a ternary secret (Security Guidelines
// for Implementing Homomorphic Encryption, ePrint 2024/463); 0 when the table has no entry.
int MaxLogQp(int log_n);
// The largest log2(q0 P') of the encapsulation key, under a ternary secret of kLeastHammingWeight
// nonzero coefficients, that hybrid attacks are estimated to leave above 128 bits
// (docs/decisions/0014-sparse-secret.md); 0 where no estimate stands.
int MaxLogEncapsulationModulus(int log_n);
inline constexpr int kLeastHammingWeight = 32;
// Fraction of the bound that production parameters leave unused.
inline constexpr double kSecurityMargin = 0.01;

// One level of the chain: the primes it adds (one today; a table so that paired primes fit later)
// and the exact nominal scale of a ciphertext at this level. scale(l-1) = scale(l)^2 / q_l within
// working levels.
struct LevelEntry {
  LevelRole role;
  std::vector<int> primes;  // indices into q_primes()
  double scale;
};

class Parameters {
 public:
  // Refuses (kSecurity) a modulus QP above MaxLogQp * (1 - kSecurityMargin), or an encapsulation
  // modulus above MaxLogEncapsulationModulus, unless spec.insecure_for_tests. Errors:
  // kInvalidArgument with the field named.
  static Result<std::shared_ptr<const Parameters>> Create(const ParametersSpec& spec);

  const ParametersSpec& spec() const { return spec_; }
  int log_n() const { return spec_.log_n; }
  int n() const { return 1 << spec_.log_n; }
  int log_slots() const { return spec_.log_n - 1; }
  int slots() const { return n() / 2; }

  int max_level() const { return static_cast<int>(levels_.size()) - 1; }
  const LevelEntry& level(int level) const { return levels_[level]; }
  double scale(int level) const { return levels_[level].scale; }
  int limbs(int level) const { return limbs_[level]; }  // Q limbs of a ciphertext at this level
  int LevelsWithRole(LevelRole role) const;
  // Highest level whose role is kWorking: where a bootstrap returns and fresh ciphertexts start.
  int working_level() const { return working_level_; }
  // Lowest level at which a value may be bootstrapped: its kSlotsToCoeffs levels are still there.
  int bootstrap_level() const { return LevelsWithRole(LevelRole::kSlotsToCoeffs); }

  // Primes of Q in chain order, then the special ones; an NTT table for each. Keys of different
  // levels use prefixes of different lengths of the special primes as their P.
  int q_count() const { return q_count_; }
  int p_count() const { return p_count_; }  // of the longest prefix in use
  const ring::NttTables& q_table(int index) const { return *tables_[index]; }
  const ring::NttTables& p_table(int index) const { return *tables_[q_count_ + index]; }
  const ring::Modulus& q(int index) const { return q_table(index).modulus(); }
  const ring::Modulus& p(int index) const { return p_table(index).modulus(); }
  size_t table_bytes() const;  // of all NTT tables
  const ring::NttTables& encapsulation_table() const {
    return *tables_.back();
  }  // P' of the encapsulation key
  // Key switching: a key of level L has P = the first special_primes(L) special primes, and that
  // number fixes its digits: digit i of a ciphertext at any level <= L covers the q indices
  // [digit_begin(special, i), digit_end(level, special, i)). Few values occur, each for a run of
  // levels.
  int special_primes(int key_level) const { return plan_.special[key_level]; }
  int digits(int level, int special) const { return plan_.digits(limbs(level), special); }
  int digits(int level) const { return digits(level, special_primes(level)); }
  int digit_begin(int special, int digit) const {
    return digit == 0 ? 0 : plan_.ends[special][digit - 1];
  }
  int digit_end(int level, int special, int digit) const {
    return std::min(plan_.ends[special][digit], limbs(level));
  }
  // log2 of the modulus of a key of this level: inside the security bound for each.
  double log_key_modulus(int key_level) const;
  // Limb j of a polynomial over QP at this level: the Q limbs first, then those of P.
  int extended_limbs(int level, int special) const { return limbs(level) + special; }
  int extended_limbs(int level) const { return extended_limbs(level, special_primes(level)); }
  const ring::NttTables& extended_table(int level, int j) const {
    return j < limbs(level) ? q_table(j) : p_table(j - limbs(level));
  }

  double log_q() const { return log_q_; }
  double log_qp() const { return log_qp_; }  // with the P of the highest level
  bool insecure() const { return spec_.insecure_for_tests; }
  // BLAKE2b-256 of the canonical description (all primes and scales): every file and message
  // carries it.
  const std::array<uint8_t, 32>& digest() const { return digest_; }
  // "N = 2^16, logQP = 1690.0 <= 1747 (2024/463, 128-bit), ..." or "INSECURE, for tests only: ...".
  std::string Describe() const;

 private:
  Parameters() = default;
  void ComputeDigest();

  ParametersSpec spec_;
  std::vector<LevelEntry> levels_;
  std::vector<int> limbs_;
  std::vector<std::shared_ptr<const ring::NttTables>> tables_;
  DigitPlan plan_;
  int q_count_ = 0, p_count_ = 0;
  int working_level_ = 0;
  double log_q_ = 0, log_qp_ = 0;
  std::array<uint8_t, 32> digest_{};
};

using ParametersPtr = std::shared_ptr<const Parameters>;

// Named production and test sets: "decode16" (the demo's program), "fast16" (the same levels,
// faster and coarser), "sparse16" and "full16" (twelve levels, sparse and full-slot bootstraps),
// "test10".."test13" (insecure small rings with fast16's structure). kNotFound with the known
// names.
Result<ParametersSpec> FindParameters(const std::string& name);
std::vector<std::string> ParameterNames();

}  // namespace polyveil::ckks
