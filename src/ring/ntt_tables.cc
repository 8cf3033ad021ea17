#include "ring/ntt_tables.h"

#include <bit>
#include <map>

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
    : n_(n), log_n_(std::countr_zero(n)), modulus_(modulus), storage_(2 * n) {
  PV_CHECK(std::has_single_bit(n) && n >= kMinRingDegree && n <= kMaxRingDegree,
           "n = {} is not a power of two in 2^10..2^17", n);
  PV_CHECK(modulus.q % (2 * n) == 1, "modulus {} mod {} = {}, not 1", modulus.q, 2 * n,
           modulus.q % (2 * n));
  psi_ = PrimitiveRoot(modulus.q, 2 * n);
  n_inverse_ = modulus_.Inverse(n);
  Fill(psi_, storage_.data(), &forward_);
  Fill(modulus_.Inverse(psi_), storage_.data() + n, &inverse_);
}

ShoupFactor NttTables::FactorOf(const TwiddleTable& table, size_t x) const {
  PV_CHECK(x < n_, "factor {} of {}", x, n_);
  if (x < n_ / 4) return {table.power[x], table.quotient[x]};
  const size_t shared = x < n_ / 2 ? 2 : 4;
  const size_t offset = x < n_ / 2 ? x - n_ / 4 : x - n_ / 2;
  const u64 base = table.power[(shared == 2 ? n_ / 4 : 3 * n_ / 8) + offset / shared];
  return modulus_.Shoup(modulus_.MulShoup(base, table.unit[offset % shared]));
}

const u64* NttTables::Reals(const TwiddleTable& table, LazyReals* reals) const {
  std::call_once(reals->once, [&] {
    reals->words = Buffer(n_);
    reals_words_ += n_;
    for (size_t x = 0; x < n_; ++x) {
      const i64 centred = modulus_.Centred(FactorOf(table, x).value);
      reals->words.data()[x] = std::bit_cast<u64>(static_cast<double>(centred));
    }
  });
  return reals->words.data();
}

// f(i) = root^rev(i). For i = 2^k + j, rev(i) = rev(2^k) + rev(j), and rev(2^k) = N / 2^(k+1).
void NttTables::Fill(u64 root, u64* words, TwiddleTable* table) {
  u64* power = words;
  u64* quotient = words + n_ / 2;
  power[0] = 1;
  for (size_t m = 1; m < n_ / 4; m *= 2) {
    const ShoupFactor step = modulus_.Shoup(modulus_.Pow(root, n_ / (2 * m)));
    for (size_t j = 0; j < m; ++j) power[m + j] = modulus_.MulShoup(power[j], step);
  }
  FillRoots(root, 2, power + n_ / 4);
  FillRoots(root, 1, power + 3 * n_ / 8);
  for (size_t i = 0; i < n_ / 2; ++i) quotient[i] = modulus_.Shoup(power[i]).quotient;
  *table = {power, quotient, {}};
  for (size_t c = 0; c < 4; ++c) table->unit[c] = modulus_.Shoup(power[c]);
}

// rev(N/4 + 2i) = 2 + rev(2i) and rev(N/2 + 4i) = 1 + rev(4i); the bit k of i stands for (N/4) >> k
// in rev(2i) and for (N/8) >> k in rev(4i). So out[i] = f(N/4 + 2i) for first = 2 and f(N/2 + 4i)
// for first = 1, i < N/8.
void NttTables::FillRoots(u64 root, u64 first, u64* out) const {
  out[0] = modulus_.Pow(root, first);
  for (size_t m = 1; m < n_ / 8; m *= 2) {
    const ShoupFactor step = modulus_.Shoup(modulus_.Pow(root, first * n_ / (8 * m)));
    for (size_t j = 0; j < m; ++j) out[m + j] = modulus_.MulShoup(out[j], step);
  }
}

}  // namespace polyveil::ring
