#include "ring/ntt_tables.h"

#include <bit>
#include <map>
#include <mutex>

#include "base/check.h"
#include "ring/primes.h"

namespace polyveil::ring {

std::shared_ptr<const NttTables> NttTables::Get(size_t n, u64 q) {
  static std::mutex mutex;
  static auto& cache = *new std::map<std::pair<size_t, u64>, std::weak_ptr<const NttTables>>;
  const std::lock_guard lock(mutex);
  auto& entry = cache[{n, q}];
  auto tables = entry.lock();
  if (tables == nullptr) {
    tables = std::make_shared<const NttTables>(n, Modulus(q));
    entry = tables;
  }
  return tables;
}

NttTables::NttTables(size_t n, const Modulus& modulus)
    : n_(n), log_n_(std::countr_zero(n)), modulus_(modulus), storage_(4 * n) {
  PV_CHECK(std::has_single_bit(n) && n >= kMinRingDegree && n <= kMaxRingDegree,
           "n = {} is not a power of two in 2^10..2^17", n);
  PV_CHECK(modulus.q % (2 * n) == 1, "modulus {} mod {} = {}, not 1", modulus.q, 2 * n,
           modulus.q % (2 * n));
  psi_ = PrimitiveRoot(modulus.q, 2 * n);
  n_inverse_ = modulus_.Inverse(n);
  Fill(psi_, storage_.data(), &forward_);
  Fill(modulus_.Inverse(psi_), storage_.data() + 2 * n, &inverse_);
}

// power[i] = root^rev(i). For i = 2^k + j, rev(i) = rev(2^k) + rev(j), and rev(2^k) = N / 2^(k+1).
void NttTables::Fill(u64 root, u64* words, TwiddleTable* table) {
  u64* power = words;
  u64* quotient = words + n_;
  power[0] = 1;
  for (size_t m = n_ / 2; m > 0; m /= 2) power[m] = 0;
  for (size_t m = 1; m < n_; m *= 2) {
    const ShoupFactor step = modulus_.Shoup(modulus_.Pow(root, n_ / (2 * m)));
    for (size_t j = 0; j < m; ++j) power[m + j] = modulus_.MulShoup(power[j], step);
  }
  for (size_t i = 0; i < n_; ++i) quotient[i] = modulus_.Shoup(power[i]).quotient;
  *table = {power, quotient};
}

}  // namespace polyveil::ring
