#include "circuits/compact_plaintext.h"

#include <algorithm>
#include <bit>

#include "circuits/diagonal_matrix.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

// Coefficients of the encoding modulo q0; Encode checks at level 0 that they are below q0 / 2.
Result<Buffer> EncodeCoefficients(const ckks::Encoder& encoder,
                                  std::span<const ckks::Complex> values, double scale) {
  const ckks::Parameters& params = *encoder.params();
  PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain, encoder.Encode(values, 0, scale));
  Buffer coefficients(params.n());
  ring::ActiveKernels().inverse_ntt(coefficients.data(), plain.poly.ptr(0), params.q_table(0), 1);
  return coefficients;
}

}  // namespace

Result<CompactPlaintext> CompactPlaintext::Create(const ckks::Encoder& encoder,
                                                  std::span<const ckks::Complex> values, int level,
                                                  double scale) {
  const ckks::Parameters& params = *encoder.params();
  const auto period = values.first(SmallestPeriod(values));
  CompactPlaintext result;
  result.log_repeat_ = params.log_slots() - std::countr_zero(period.size());
  if (result.log_repeat_ == 0) {
    PV_ASSIGN_OR_RETURN(result.values_, EncodeCoefficients(encoder, period, scale));
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

void CompactPlaintext::ExpandBlock(const ckks::Parameters& params, int level, size_t limb,
                                   size_t begin, std::span<u64> out) const {
  if (in_coefficients()) {
    PV_CHECK(begin == 0 && out.size() == values_.size(), "a block of a transformed limb");
    const ring::NttTables& table = params.extended_table(level, static_cast<int>(limb));
    const ring::Kernels& kernels = ring::ActiveKernels();
    kernels.reduce_from(out.data(), values_.data(), out.size(), params.q(0), table.modulus(), true);
    kernels.forward_ntt(out.data(), out.data(), table);
    return;
  }
  const u64* values = values_.data() + limb * (static_cast<size_t>(params.n()) >> log_repeat_);
  const size_t repeat = size_t{1} << log_repeat_;
  for (size_t j = 0; j < out.size();) {
    const size_t run = std::min(repeat - ((begin + j) & (repeat - 1)), out.size() - j);
    std::fill_n(out.begin() + j, run, values[(begin + j) >> log_repeat_]);
    j += run;
  }
}

size_t CompactPlaintext::bytes() const { return values_.size() * sizeof(u64); }

}  // namespace polyveil::circuits
