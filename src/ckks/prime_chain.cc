#include "ckks/prime_chain.h"

#include <algorithm>
#include <cmath>

#include "ring/primes.h"

namespace polyveil::ckks {
namespace {

constexpr int kMaxSpecialPrimes = 60;  // the base converter's bound

struct Level {
  LevelRole role;
  int log_prime;
};

std::vector<Level> Flatten(const ParametersSpec& spec) {
  std::vector<Level> levels;
  for (const LevelGroup& group : spec.chain)
    levels.insert(levels.end(), group.count, Level{group.role, group.log_prime});
  return levels;
}

bool IsScaleMatched(LevelRole role) {
  return role == LevelRole::kWorking || role == LevelRole::kSlotsToCoeffs;
}

// Special primes that one digit of some level would need at most, by nominal sizes. The bound is
// that of the highest level; one digit of level l is the longest P that still fits it.
int SpecialPool(const ParametersSpec& spec, const std::vector<Level>& levels) {
  double log_top = static_cast<double>(spec.special_primes) * spec.log_special_prime;
  for (const Level& level : levels) log_top += level.log_prime;
  const double bound = std::max<double>(log_top, MaxLogQp(spec.log_n)) + 1;
  int pool = spec.special_primes;
  double log_q = 0;
  for (const Level& level : levels) {
    log_q += level.log_prime;
    const int special = static_cast<int>(log_q / spec.log_special_prime) + 1;
    if (log_q + special * spec.log_special_prime <= bound) pool = std::max(pool, special);
  }
  return std::min(pool, kMaxSpecialPrimes);
}

// Primes near a power of two, for everything that no nominal scale depends on.
Status ChooseFixed(const ParametersSpec& spec, const std::vector<Level>& levels,
                   std::vector<u64>& taken, PrimeChain& chain) {
  const size_t n = size_t{1} << spec.log_n;
  PV_ASSIGN_OR_RETURN(
      chain.p, ring::FindNttPrimes(n, spec.log_special_prime, SpecialPool(spec, levels), taken));
  taken.insert(taken.end(), chain.p.begin(), chain.p.end());
  for (size_t l = 0; l < levels.size(); ++l) {
    if (IsScaleMatched(levels[l].role)) continue;
    PV_ASSIGN_OR_RETURN(const auto prime, ring::FindNttPrimes(n, levels[l].log_prime, 1, taken));
    chain.q[l] = prime[0];
    taken.push_back(prime[0]);
  }
  PV_ASSIGN_OR_RETURN(const auto prime,
                      ring::FindNttPrimes(n, spec.log_encapsulation_prime, 1, taken));
  chain.encapsulation = prime[0];
  taken.push_back(prime[0]);
  return {};
}

}  // namespace

Result<PrimeChain> ChoosePrimes(const ParametersSpec& spec) {
  const std::vector<Level> levels = Flatten(spec);
  PrimeChain chain;
  chain.q.resize(levels.size());
  chain.scales.resize(levels.size());
  std::vector<u64> taken;
  PV_RETURN_IF_ERROR(ChooseFixed(spec, levels, taken, chain));

  // The nominal scale of the level being visited; a chain without working levels starts at 2^40.
  double scale = 0x1p40;
  bool started = false;
  for (size_t l = levels.size(); l-- > 0;) {
    const double nominal = std::ldexp(1.0, levels[l].log_prime);
    if (!IsScaleMatched(levels[l].role)) {
      const bool is_base = levels[l].role == LevelRole::kBase;
      chain.scales[l] = is_base ? scale : static_cast<double>(chain.q[l]);
      continue;
    }
    if (!started) scale = nominal;
    started = true;
    chain.scales[l] = scale;
    // StC levels of another size than the working ones hold matrices at the prime's own scale and
    // leave the value's scale as it is.
    const bool keeps_scale = std::abs(std::log2(scale) - levels[l].log_prime) > 0.5;
    const double target = keeps_scale ? nominal : scale * scale / nominal;
    PV_ASSIGN_OR_RETURN(chain.q[l], ring::NearestNttPrime(size_t{1} << spec.log_n, target, taken));
    taken.push_back(chain.q[l]);
    if (!keeps_scale) scale = scale * scale / static_cast<double>(chain.q[l]);
  }
  return chain;
}

}  // namespace polyveil::ckks
