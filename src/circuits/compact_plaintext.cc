#include "circuits/compact_plaintext.h"

#include <algorithm>
#include <bit>

#include "base/thread_pool.h"
#include "circuits/diagonal_matrix.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

u64 ToResidue(i64 value, u64 q) { return static_cast<u64>(value) + (value < 0 ? q : 0); }

// Halves away from zero; no overflow, since the result has 30 bits.
i32 Shortened(i64 value, int shift) {
  const i64 half = shift > 0 ? i64{1} << (shift - 1) : 0;
  return static_cast<i32>(value < 0 ? -((half - value) >> shift) : (value + half) >> shift);
}

}  // namespace

Result<CompactPlaintext> CompactPlaintext::Create(const ckks::Encoder& encoder,
                                                  std::span<const ckks::Complex> values, int level,
                                                  double scale, CoefficientWords words) {
  const ckks::Parameters& params = *encoder.params();
  const auto period = values.first(SmallestPeriod(values));
  CompactPlaintext result;
  result.log_repeat_ = params.log_slots() - std::countr_zero(period.size());
  if (result.log_repeat_ == 0) {
    // Level 0: below q0 / 2.
    PV_ASSIGN_OR_RETURN(const std::vector<i64> whole, encoder.Coefficients(period, 0, scale));
    result.KeepCoefficients(whole, params.q(0).q, words);
    return result;
  }
  if (result.log_repeat_ >= 3) {
    PV_ASSIGN_OR_RETURN(const ring::RnsPoly values, encoder.EncodeDistinct(period, level, scale));
    const size_t words = values.limb(0).size();
    result.values_ = Buffer(values.limbs() * words);
    for (size_t i = 0; i < values.limbs(); ++i)
      std::ranges::copy(values.limb(i), result.values_.data() + i * words);
    return result;
  }
  PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain, encoder.Encode(period, level, scale, true));
  const size_t repeat = size_t{1} << result.log_repeat_, kept = params.n() / repeat;
  result.values_ = Buffer(plain.poly.limbs() * kept);
  for (size_t i = 0; i < plain.poly.limbs(); ++i) {
    const auto limb = plain.poly.limb(i);
    for (size_t j = 0; j < kept; ++j) {
      result.values_[i * kept + j] = limb[j * repeat];
      PV_CHECK(limb[j * repeat] == limb[j * repeat + repeat - 1], "NTT order: word {}", j * repeat);
    }
  }
  return result;
}

void CompactPlaintext::KeepCoefficients(const std::vector<i64>& whole, u64 q,
                                        CoefficientWords words) {
  if (words == CoefficientWords::kWhole) {
    values_ = Buffer(whole.size());
    for (size_t i = 0; i < whole.size(); ++i) values_[i] = ToResidue(whole[i], q);
    return;
  }
  constexpr int kBits = 30;
  u64 bits = 0;
  for (const i64 value : whole) bits |= static_cast<u64>(std::abs(value));
  shift_ = std::max(0, static_cast<int>(std::bit_width(bits)) - kBits);
  short_.resize(whole.size());
  for (size_t i = 0; i < whole.size(); ++i) short_[i] = Shortened(whole[i], shift_);
}

void CompactPlaintext::ExpandBlock(const ckks::Parameters& params, int level, size_t limb,
                                   size_t begin, std::span<u64> out) const {
  if (in_coefficients()) {
    PV_CHECK(begin == 0 && out.size() == static_cast<size_t>(params.n()),
             "a block of a transformed limb");
    const ring::NttTables& table = params.extended_table(level, static_cast<int>(limb));
    const ring::Kernels& kernels = ring::ActiveKernels();
    const u64* residues = values_.data();
    if (!short_.empty()) {
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = ToResidue(static_cast<i64>(short_[i]) << shift_, params.q(0).q);
      residues = out.data();
    }
    kernels.reduce_from(out.data(), residues, out.size(), params.q(0), table.modulus(), true);
    kernels.forward_ntt(out.data(), out.data(), table);
    return;
  }
  const u64* values = Distinct(params, limb, 0);
  const size_t repeat = size_t{1} << log_repeat_;
  for (size_t j = 0; j < out.size();) {
    const size_t run = std::min(repeat - ((begin + j) & (repeat - 1)), out.size() - j);
    std::fill_n(out.begin() + j, run, values[(begin + j) >> log_repeat_]);
    j += run;
  }
}

ckks::Plaintext CompactPlaintext::Expand(const ckks::Parameters& params, int level,
                                         double scale) const {
  const auto limbs = static_cast<size_t>(params.limbs(level));
  ckks::Plaintext plain{ring::RnsPoly(limbs, params.n()), level, scale};
  ParallelFor(limbs, [&](size_t j) { ExpandBlock(params, level, j, 0, plain.poly.limb(j)); });
  return plain;
}

size_t CompactPlaintext::bytes() const {
  return values_.size() * sizeof(u64) + short_.size() * sizeof(i32);
}

}  // namespace polyveil::circuits
