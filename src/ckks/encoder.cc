#include "ckks/encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "base/thread_pool.h"
#include "ckks/special_fft.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

// Coefficients as integers and the largest of their magnitudes.
struct Integers {
  std::vector<i64> values;
  i64 largest = 0;
};

// NTT of a polynomial in X^(N/m) given by its m coefficients, in place: an NTT of size m with the
// first m twiddle factors, each value standing for N/m equal ones (the order of ntt_tables.h).
void PeriodicNtt(std::span<u64> coefficients, const ring::NttTables& tables) {
  const ring::Modulus& q = tables.modulus();
  const size_t m = coefficients.size();
  for (size_t blocks = 1; blocks < m; blocks *= 2) {
    const size_t half = m / (2 * blocks);
    for (size_t i = 0; i < blocks; ++i) {
      const ring::ShoupFactor w = tables.ForwardFactor(blocks + i);
      u64* x = coefficients.data() + 2 * i * half;
      for (size_t j = 0; j < half; ++j) {
        const u64 u = x[j], v = q.MulShoup(x[j + half], w);
        x[j] = q.Add(u, v);
        x[j + half] = q.Sub(u, v);
      }
    }
  }
}

void Repeat(std::span<const u64> values, std::span<u64> out) {
  const size_t copies = out.size() / values.size();
  for (size_t j = 0; j < values.size(); ++j)
    std::fill_n(out.begin() + static_cast<ptrdiff_t>(j * copies), copies, values[j]);
}

}  // namespace

struct Encoder::Tables {
  explicit Tables(size_t slots) : fft(slots) {}
  // Of a ring of m coefficients, kept from its first use on.
  std::shared_ptr<const ring::NttTables> OfRing(size_t m, u64 q) const {
    const std::lock_guard lock(mutex);
    auto& tables = rings[{m, q}];
    if (!tables) tables = ring::NttTables::Get(m, q);
    return tables;
  }

  SpecialFft fft;
  mutable std::mutex mutex;
  mutable std::map<std::pair<size_t, u64>, std::shared_ptr<const ring::NttTables>> rings;
};

Encoder::Encoder(ParametersPtr params)
    : params_(std::move(params)), tables_(std::make_shared<Tables>(params_->slots())) {}

void Encoder::SlotsToCoefficients(std::span<Complex> values) const { tables_->fft.Inverse(values); }
void Encoder::CoefficientsToSlots(std::span<Complex> values) const { tables_->fft.Forward(values); }

namespace {

Status CheckArguments(const Parameters& params, size_t count, int level, double scale) {
  if (!std::has_single_bit(count) || count > static_cast<size_t>(params.slots()))
    return MakeError(ErrorCode::kInvalidArgument,
                     "encode: {} values, expected a power of two up to {}", count, params.slots());
  if (level < 0 || level > params.max_level())
    return MakeError(ErrorCode::kInvalidArgument, "encode: level = {}, expected 0..{}", level,
                     params.max_level());
  if (!(scale > 0) || !std::isfinite(scale))
    return MakeError(ErrorCode::kInvalidArgument, "encode: scale = {}", scale);
  return {};
}

// The 2n' coefficients of a polynomial in X^(N/2n'), rounded: real parts first.
Result<Integers> Round(const Parameters& params, std::span<const Complex> coefficients, int level,
                       double scale) {
  double bound = 0x1p62;
  double log_q = -1;
  for (int j = 0; j < params.limbs(level) && log_q < 62; ++j)
    log_q += std::log2(static_cast<double>(params.q(j).q));
  bound = std::min(bound, std::exp2(log_q));
  const size_t count = coefficients.size();
  Integers result;
  result.values.resize(2 * count);
  double largest = 0;
  bool finite = true;
  for (size_t j = 0; j < count; ++j) {
    const double re = coefficients[j].real() * scale, im = coefficients[j].imag() * scale;
    const double magnitude = std::max(std::abs(re), std::abs(im));
    largest = std::max(largest, magnitude);
    finite &= magnitude < bound;  // false for NaN
    if (!finite) continue;
    result.values[j] = std::llrint(re);
    result.values[j + count] = std::llrint(im);
  }
  if (!finite)
    return MakeError(
        ErrorCode::kOutOfRange,
        "encode: a coefficient times the scale is 2^{:.1f} >= 2^{:.1f} (scale 2^{:.1f}, "
        "level {})",
        std::log2(largest), std::log2(bound), std::log2(scale), level);
  result.largest = static_cast<i64>(largest) + 1;
  return result;
}

// Small integers are kept as residues of one wide prime, from which a vector kernel reduces.
class Residues {
 public:
  Residues(const Parameters& params, const Integers& integers, size_t words, size_t stride)
      : wide_(params.p(0)),
        small_(static_cast<u64>(integers.largest) < wide_.q / 2),
        spread_(words) {
    if (words != integers.values.size()) spread_.Zero();
    for (size_t j = 0; j < integers.values.size(); ++j) {
      const i64 value = integers.values[j];
      spread_[j * stride] = small_ ? wide_.FromSigned(value) : static_cast<u64>(value);
    }
  }
  void Reduce(const ring::Modulus& q, u64* residues) const {
    if (small_)
      return ring::ActiveKernels().reduce_from(residues, spread_.data(), spread_.size(), wide_, q,
                                               true);
    for (size_t k = 0; k < spread_.size(); ++k)
      residues[k] = q.ReduceSigned(static_cast<i64>(spread_[k]));
  }

 private:
  const ring::Modulus& wide_;
  const bool small_;
  Buffer spread_;
};

// Encodes integers, the coefficients of a polynomial in X^(N/m), into every limb.
ring::RnsPoly Expand(const Parameters& params, const Integers& integers, int level, bool with_p) {
  const size_t n = params.n();
  const size_t limbs = with_p ? params.extended_limbs(level) : params.limbs(level);
  const Residues residues(params, integers, n, n / integers.values.size());
  ring::RnsPoly result(limbs, n);
  ParallelFor(limbs, [&](size_t j) {
    const ring::NttTables& tables = params.extended_table(level, static_cast<int>(j));
    residues.Reduce(tables.modulus(), result.ptr(j));
    ring::ActiveKernels().forward_ntt(result.ptr(j), result.ptr(j), tables);
  });
  return result;
}

}  // namespace

Result<std::vector<i64>> Encoder::Coefficients(std::span<const Complex> values, int level,
                                               double scale) const {
  PV_RETURN_IF_ERROR(CheckArguments(*params_, values.size(), level, scale));
  std::vector<Complex> coefficients(values.begin(), values.end());
  SlotsToCoefficients(coefficients);
  PV_ASSIGN_OR_RETURN(Integers integers, Round(*params_, coefficients, level, scale));
  return std::move(integers.values);
}

ring::RnsPoly Encoder::DistinctValues(const std::vector<i64>& coefficients, i64 largest, int level,
                                      size_t limbs) const {
  const size_t m = coefficients.size();
  const size_t words = std::max<size_t>(m, 64);  // the kernels' multiple
  const Residues residues(*params_, {coefficients, largest}, words, 1);
  ring::RnsPoly result(limbs, m);
  Buffer scratch(words);
  for (size_t j = 0; j < limbs; ++j) {
    const ring::NttTables& tables = params_->extended_table(level, static_cast<int>(j));
    residues.Reduce(tables.modulus(), scratch.data());
    // The root of a smaller ring is the power that has its order (PrimitiveRoot).
    if (m >= ring::kMinRingDegree)
      ring::ActiveKernels().forward_ntt(scratch.data(), scratch.data(),
                                        *tables_->OfRing(m, tables.modulus().q));
    else
      PeriodicNtt({scratch.data(), m}, tables);
    std::copy_n(scratch.data(), m, result.ptr(j));
  }
  return result;
}

Result<Plaintext> Encoder::Encode(std::span<const Complex> values, int level, double scale,
                                  bool with_p) const {
  PV_RETURN_IF_ERROR(CheckArguments(*params_, values.size(), level, scale));
  std::vector<Complex> coefficients(values.begin(), values.end());
  SlotsToCoefficients(coefficients);
  PV_ASSIGN_OR_RETURN(const Integers integers, Round(*params_, coefficients, level, scale));
  Plaintext result;
  const size_t n = params_->n(), limbs = static_cast<size_t>(with_p ? params_->extended_limbs(level)
                                                                    : params_->limbs(level));
  if (integers.values.size() <= n / 8) {
    const ring::RnsPoly distinct = DistinctValues(integers.values, integers.largest, level, limbs);
    result.poly = ring::RnsPoly(limbs, n);
    ParallelFor(limbs, [&](size_t j) { Repeat(distinct.limb(j), result.poly.limb(j)); });
  } else {
    result.poly = Expand(*params_, integers, level, with_p);
  }
  result.level = level;
  result.scale = scale;
  result.with_p = with_p;
  return result;
}

Result<ring::RnsPoly> Encoder::EncodeDistinct(std::span<const Complex> values, int level,
                                              double scale) const {
  PV_RETURN_IF_ERROR(CheckArguments(*params_, values.size(), level, scale));
  if (values.size() > static_cast<size_t>(params_->slots()) / 8)
    return MakeError(ErrorCode::kInvalidArgument, "encode: a period of {} values > {}",
                     values.size(), params_->slots() / 8);
  std::vector<Complex> coefficients(values.begin(), values.end());
  SlotsToCoefficients(coefficients);
  PV_ASSIGN_OR_RETURN(const Integers integers, Round(*params_, coefficients, level, scale));
  return DistinctValues(integers.values, integers.largest, level,
                        static_cast<size_t>(params_->extended_limbs(level)));
}

Result<Plaintext> Encoder::Encode(std::span<const double> values, int level, double scale,
                                  bool with_p) const {
  const std::vector<Complex> as_complex(values.begin(), values.end());
  return Encode(std::span<const Complex>(as_complex), level, scale, with_p);
}

namespace {

// The signed values of residues mod q_0..q_(k-1), by balanced mixed radix: small values are exact.
class MixedRadix {
 public:
  MixedRadix(const Parameters& params, size_t count) : params_(params), count_(count) {
    for (size_t k = 0; k < count; ++k) {
      const ring::Modulus& q = params.q(static_cast<int>(k));
      std::vector<u64>& row = inverses_.emplace_back();
      for (size_t i = 0; i < k; ++i)
        row.push_back(q.Inverse(q.Reduce(params.q(static_cast<int>(i)).q)));
    }
  }

  double Value(const ring::RnsPoly& residues, size_t index) const {
    i64 digits[4];
    for (size_t k = 0; k < count_; ++k) {
      const ring::Modulus& q = params_.q(static_cast<int>(k));
      u64 x = residues.limb(k)[index];
      for (size_t i = 0; i < k; ++i)
        x = q.Mul(q.Sub(x, q.ReduceSigned(digits[i])), inverses_[k][i]);
      digits[k] = q.Centred(x);
    }
    long double sum = 0;
    for (size_t k = count_; k-- > 0;)
      sum = sum * static_cast<long double>(params_.q(static_cast<int>(k)).q) +
            static_cast<long double>(digits[k]);
    return static_cast<double>(sum);
  }

 private:
  const Parameters& params_;
  size_t count_;
  std::vector<std::vector<u64>> inverses_;
};

}  // namespace

std::vector<Complex> Encoder::Decode(const Plaintext& plaintext, int count) const {
  const size_t n = params_->n(), slots = n / 2;
  PV_CHECK(count > 0 && std::has_single_bit(static_cast<size_t>(count)) &&
               static_cast<size_t>(count) <= slots,
           "decode: {} slots of {}", count, slots);
  const size_t limbs = std::min<size_t>(4, params_->limbs(plaintext.level));
  ring::RnsPoly coefficients(limbs, n);
  ParallelFor(limbs, [&](size_t j) {
    ring::ActiveKernels().inverse_ntt(coefficients.ptr(j), plaintext.poly.ptr(j),
                                      params_->q_table(static_cast<int>(j)), 1);
  });
  // All slots, whatever the period: the caller asked for the first `count`, not for an average.
  const MixedRadix radix(*params_, limbs);
  std::vector<Complex> values(slots);
  const double inverse_scale = 1 / plaintext.scale;
  constexpr size_t kBlock = 1024;
  ParallelFor((slots + kBlock - 1) / kBlock, [&](size_t block) {
    for (size_t j = block * kBlock; j < std::min(slots, (block + 1) * kBlock); ++j)
      values[j] = {radix.Value(coefficients, j) * inverse_scale,
                   radix.Value(coefficients, j + slots) * inverse_scale};
  });
  CoefficientsToSlots(values);
  values.resize(count);
  return values;
}

}  // namespace polyveil::ckks
