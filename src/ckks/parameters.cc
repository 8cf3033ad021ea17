#include "ckks/parameters.h"

#include <bit>
#include <cmath>

#include "base/digest.h"
#include "ckks/prime_chain.h"

namespace polyveil::ckks {
namespace {

constexpr int kMaxLimbs = 60;  // of Q; of P as well: the base converter's and the kernels' bound

double Log2Product(const std::vector<u64>& primes, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += std::log2(static_cast<double>(primes[i]));
  return sum;
}

Status CheckRange(const char* field, int value, int low, int high) {
  if (value >= low && value <= high) return {};
  return MakeError(ErrorCode::kInvalidArgument, "parameters.{} = {}, expected {}..{}", field, value,
                   low, high);
}

Status CheckSpec(const ParametersSpec& spec) {
  PV_RETURN_IF_ERROR(CheckRange("log_n", spec.log_n, 10, 17));
  const int min_bits = spec.log_n + 4;  // below, there are too few primes
  PV_RETURN_IF_ERROR(CheckRange("special_primes", spec.special_primes, 1, kMaxLimbs));
  PV_RETURN_IF_ERROR(CheckRange("log_special_prime", spec.log_special_prime, min_bits, 50));
  PV_RETURN_IF_ERROR(
      CheckRange("log_encapsulation_prime", spec.log_encapsulation_prime, min_bits, 50));
  PV_RETURN_IF_ERROR(
      CheckRange("sparse_hamming_weight", spec.sparse_hamming_weight, 1, 1 << spec.log_n));
  if (spec.chain.empty() || spec.chain[0].role != LevelRole::kBase || spec.chain[0].count != 1)
    return MakeError(ErrorCode::kInvalidArgument,
                     "parameters.chain must begin with one base level");
  int limbs = 0;
  for (size_t i = 0; i < spec.chain.size(); ++i) {
    const LevelGroup& group = spec.chain[i];
    if (i > 0 && group.role == LevelRole::kBase)
      return MakeError(ErrorCode::kInvalidArgument, "parameters.chain[{}]: a second base level", i);
    PV_RETURN_IF_ERROR(CheckRange("chain.count", group.count, 0, kMaxLimbs));
    PV_RETURN_IF_ERROR(CheckRange("chain.log_prime", group.log_prime, min_bits, 50));
    limbs += group.count;
  }
  return CheckRange("chain (limbs in all)", limbs, 1, kMaxLimbs);
}

std::vector<double> Logs(const std::vector<u64>& primes) {
  std::vector<double> logs;
  for (u64 q : primes) logs.push_back(std::log2(static_cast<double>(q)));
  return logs;
}

// Key switching divides the digits' noise by P, so P must exceed each digit's product. Digits are
// packed to stay below; only a digit of one prime can fail.
Status CheckDigits(const PrimeChain& chain, const DigitPlan& plan) {
  for (const int special : plan.special) {
    const double log_p = Log2Product(chain.p, 0, special);
    int begin = 0;
    for (const int end : plan.ends[special]) {
      const double log_digit = Log2Product(chain.q, begin, end);
      if (log_digit > log_p)
        return MakeError(ErrorCode::kInvalidArgument,
                         "parameters: log2(digit of q_{} to q_{}) = {:.2f} > log2(P) = {:.2f}",
                         begin, end - 1, log_digit, log_p);
      begin = end;
    }
  }
  return {};
}

// Largest log2(QP) of any key: the security bound; for tests, about that of the highest key, so
// that their plans have the structure of secure ones.
double KeyBound(const ParametersSpec& spec, double log_qp) {
  const double bound = MaxLogQp(spec.log_n) * (1 - kSecurityMargin);
  return spec.insecure_for_tests ? std::max(bound, 1.005 * log_qp) : bound;
}

Status CheckSparseSecret(const ParametersSpec& spec, double log_encapsulation) {
  if (spec.sparse_hamming_weight < kLeastHammingWeight)
    return MakeError(ErrorCode::kSecurity, "sparse_hamming_weight = {} < {}",
                     spec.sparse_hamming_weight, kLeastHammingWeight);
  const int bound = MaxLogEncapsulationModulus(spec.log_n);
  if (bound == 0)
    return MakeError(ErrorCode::kSecurity,
                     "encapsulation key: log2(q0 P') = {:.2f}, but no estimate of its sparse "
                     "secret stands at N = 2^{}",
                     log_encapsulation, spec.log_n);
  if (log_encapsulation > bound)
    return MakeError(ErrorCode::kSecurity,
                     "encapsulation key: log2(q0 P') = {:.2f} > {} (sparse secret at N = 2^{})",
                     log_encapsulation, bound, spec.log_n);
  return {};
}

Status CheckSecurity(const ParametersSpec& spec, double log_qp, double log_encapsulation) {
  if (spec.insecure_for_tests) return {};
  if (spec.log_n < 13)
    return MakeError(ErrorCode::kSecurity, "log_n = {} < 13: only with insecure_for_tests",
                     spec.log_n);
  const double bound = MaxLogQp(spec.log_n) * (1 - kSecurityMargin);
  if (log_qp > bound)
    return MakeError(ErrorCode::kSecurity,
                     "log2(QP) = {:.2f} > {:.2f} (= {} of ePrint 2024/463 at N = 2^{}, less the "
                     "margin of {:.0f}%)",
                     log_qp, bound, MaxLogQp(spec.log_n), spec.log_n, 100 * kSecurityMargin);
  return CheckSparseSecret(spec, log_encapsulation);
}

}  // namespace

int MaxLogQp(int log_n) {
  switch (log_n) {
    case 10:
      return 26;
    case 11:
      return 53;
    case 12:
      return 106;
    case 13:
      return 214;
    case 14:
      return 430;
    case 15:
      return 868;
    case 16:
      return 1747;
    case 17:
      return 3523;
    default:
      return 0;
  }
}

int MaxLogEncapsulationModulus(int log_n) {
  switch (log_n) {
    case 16:
      return 120;  // 2^172
    default:
      return 0;  // 2^104 at N = 2^13 and 100 bits, 2^128.7 at 2^14; others are not estimated
  }
}

Result<std::shared_ptr<const Parameters>> Parameters::Create(const ParametersSpec& spec) {
  PV_RETURN_IF_ERROR(CheckSpec(spec));
  PV_ASSIGN_OR_RETURN(PrimeChain chain, ChoosePrimes(spec));

  std::shared_ptr<Parameters> result(new Parameters);
  Parameters& p = *result;
  p.spec_ = spec;
  p.q_count_ = static_cast<int>(chain.q.size());
  p.log_q_ = Log2Product(chain.q, 0, chain.q.size());
  p.log_qp_ = p.log_q_ + Log2Product(chain.p, 0, spec.special_primes);
  PV_RETURN_IF_ERROR(
      CheckSecurity(spec, p.log_qp_, Log2Product({chain.q[0], chain.encapsulation}, 0, 2)));

  for (const LevelGroup& group : spec.chain)
    for (int i = 0; i < group.count; ++i) {
      const int level = static_cast<int>(p.levels_.size());
      p.levels_.push_back({group.role, {level}, chain.scales[level]});
      p.limbs_.push_back(level + 1);
      if (group.role == LevelRole::kWorking) p.working_level_ = level;
    }
  if (p.LevelsWithRole(LevelRole::kWorking) == 0) p.working_level_ = p.max_level();

  p.plan_ = ChooseDigits({.log_q = Logs(chain.q),
                          .log_p = Logs(chain.p),
                          .limbs = p.limbs_,
                          .top_special = spec.special_primes,
                          .max_log_qp = KeyBound(spec, p.log_qp_),
                          .tops = {p.working_level_, p.bootstrap_level()}});
  PV_RETURN_IF_ERROR(CheckDigits(chain, p.plan_));
  p.p_count_ = std::ranges::max(p.plan_.special);
  chain.p.resize(p.p_count_);

  const size_t n = size_t{1} << spec.log_n;
  for (u64 q : chain.q) p.tables_.push_back(ring::NttTables::Get(n, q));
  for (u64 q : chain.p) p.tables_.push_back(ring::NttTables::Get(n, q));
  p.tables_.push_back(ring::NttTables::Get(n, chain.encapsulation));
  for (int level = 0; level < p.max_level(); ++level)
    PV_CHECK(p.insecure() || p.log_key_modulus(level) <= KeyBound(spec, p.log_qp_),
             "key of level {}: log2(QP) = {}", level, p.log_key_modulus(level));
  p.ComputeDigest();
  return std::shared_ptr<const Parameters>(std::move(result));
}

int Parameters::LevelsWithRole(LevelRole role) const {
  int count = 0;
  for (const LevelEntry& entry : levels_) count += entry.role == role;
  return count;
}

double Parameters::log_key_modulus(int key_level) const {
  double sum = 0;
  for (int j = 0; j < extended_limbs(key_level); ++j)
    sum += std::log2(static_cast<double>(extended_table(key_level, j).modulus().q));
  return sum;
}

void Parameters::ComputeDigest() {
  Hasher hasher("polyveil/ckks/parameters/1");
  hasher.UpdateU64(spec_.log_n).UpdateU64(q_count_).UpdateU64(p_count());
  for (const auto& table : tables_) hasher.UpdateU64(table->modulus().q).UpdateU64(table->psi());
  for (const int special : plan_.special) hasher.UpdateU64(special);
  for (const LevelEntry& entry : levels_)
    hasher.UpdateU64(static_cast<u64>(entry.role)).UpdateU64(std::bit_cast<u64>(entry.scale));
  hasher.UpdateU64(spec_.sparse_hamming_weight).UpdateU64(spec_.insecure_for_tests);
  digest_ = hasher.Final();
}

std::string Parameters::Describe() const {
  const std::string shape =
      fmt::format("N = 2^{}, {} levels, {} + {} limbs, dnum {}, logQ = {:.1f}", log_n(),
                  max_level(), q_count(), spec_.special_primes, digits(max_level()), log_q_);
  if (insecure())
    return fmt::format("INSECURE, for tests only: {}: {}, logQP = {:.1f} (bound {})", spec_.name,
                       shape, log_qp_, MaxLogQp(log_n()));
  const double log_sparse = Log2Product({q(0).q, encapsulation_table().modulus().q}, 0, 2);
  return fmt::format(
      "{}: {}, logQP = {:.1f} <= {} (128-bit, ePrint 2024/463), sparse secret h = {} at {:.1f} <= "
      "{} "
      "bits (hybrid attacks, estimated), circular security assumed",
      spec_.name, shape, log_qp_, MaxLogQp(log_n()), spec_.sparse_hamming_weight, log_sparse,
      MaxLogEncapsulationModulus(log_n()));
}

size_t Parameters::table_bytes() const {
  size_t bytes = 0;
  for (const auto& table : tables_) bytes += table->bytes();
  return bytes;
}

}  // namespace polyveil::ckks
