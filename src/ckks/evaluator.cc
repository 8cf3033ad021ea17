// Element-wise operations, constants and levels.
#include "ckks/evaluator.h"

#include <cmath>

#include "base/target_clones.h"
#include "base/thread_pool.h"
#include "ckks/key_switch.h"
#include "ckks/scalar_residue.h"
#include "ring/automorphism.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::RnsPoly;

using BinaryKernel = void (*)(u64*, const u64*, const u64*, size_t, const Modulus&);

// a.parts[k] = kernel(a.parts[k], b.parts[k]) for the parts of b.
void ApplyInplace(const Parameters& params, BinaryKernel kernel, Ciphertext& a,
                  std::span<const RnsPoly* const> b) {
  const size_t n = params.n(), limbs = params.limbs(a.level);
  ParallelFor(limbs * b.size(), [&](size_t item) {
    const size_t k = item / limbs, j = item % limbs;
    u64* out = a.parts[k].ptr(j);
    kernel(out, out, b[k]->ptr(j), n, params.q(static_cast<int>(j)));
  });
}

// fn(j, part) over every limb of a ciphertext's parts.
template <typename Fn>
void ForEachLimb(size_t limbs, size_t parts, Fn&& fn) {
  ParallelFor(limbs * parts, [&](size_t item) { fn(item % limbs, item / limbs); });
}

Ciphertext EmptyLike(const Parameters& params, const Ciphertext& a) {
  Ciphertext result;
  result.level = a.level;
  result.scale = a.scale;
  for (size_t k = 0; k < a.parts.size(); ++k)
    result.parts.emplace_back(params.limbs(a.level), params.n());
  return result;
}

Status CheckSame(const char* operation, int level_a, int level_b, double scale_a, double scale_b) {
  if (level_a != level_b)
    return MakeError(ErrorCode::kMismatch, "{}: levels {} and {}", operation, level_a, level_b);
  if (!SameScale(scale_a, scale_b))
    return MakeError(ErrorCode::kMismatch, "{}: scales 2^{:.9f} and 2^{:.9f}", operation,
                     std::log2(scale_a), std::log2(scale_b));
  return {};
}

Status CheckPlain(const char* operation, const Ciphertext& a, const Plaintext& b) {
  if (b.level >= a.level) return {};
  return MakeError(ErrorCode::kMismatch, "{}: plaintext level {} < ciphertext level {}", operation,
                   b.level, a.level);
}

// a + s for one residue s in every word.
PV_TARGET_CLONES void AddWord(u64* a, u64 s, size_t n, u64 q) {
  for (size_t i = 0; i < n; ++i) {
    const u64 sum = a[i] + s;
    const u64 reduced = sum - q;
    a[i] = sum < reduced ? sum : reduced;  // the smaller: sum - q wraps when sum < q
  }
}

// psi^(N/2): a square root of -1, the value of X^(N/2) on the first half of the words; its negative
// on the second half (their exponents 2 rev(j) + 1 are 1 and 3 mod 4).
u64 ImaginaryUnit(const ring::NttTables& tables) {
  return tables.modulus().Pow(tables.psi(), tables.n() / 2);
}

}  // namespace

bool SameScale(double a, double b) { return std::abs(a - b) <= kScaleTolerance * std::max(a, b); }

Evaluator::Evaluator(ParametersPtr params, const EvaluationKeys* keys)
    : params_(std::move(params)), keys_(keys), switcher_(std::make_shared<KeySwitcher>(params_)) {}

std::shared_ptr<const std::vector<u32>> Evaluator::Permutation(int rotation) const {
  return switcher_->Permutation(ring::GaloisElement(rotation, params_->n()));
}

size_t Evaluator::permutation_bytes() const { return switcher_->permutation_bytes(); }

Status Evaluator::CheckDegreeOne(const char* operation, const Ciphertext& a) {
  if (a.degree() == 1) return {};
  return MakeError(ErrorCode::kMismatch, "{}: degree {}, expected 1 (relinearise first)", operation,
                   a.degree());
}

Status Evaluator::RequireKeys(const char* operation) const {
  if (keys_) return {};
  return MakeError(ErrorCode::kMissingKey, "{}: the evaluator has no keys", operation);
}

Status Evaluator::AddInplace(Ciphertext& a, const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(CheckSame("add", a.level, b.level, a.scale, b.scale));
  const size_t common = std::min(a.parts.size(), b.parts.size());
  std::vector<const RnsPoly*> parts;
  for (size_t k = 0; k < common; ++k) parts.push_back(&b.parts[k]);
  ApplyInplace(*params_, ActiveKernels().add, a, parts);
  for (size_t k = common; k < b.parts.size(); ++k) a.parts.push_back(b.parts[k]);
  return {};
}

Status Evaluator::SubInplace(Ciphertext& a, const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(CheckSame("sub", a.level, b.level, a.scale, b.scale));
  while (a.parts.size() < b.parts.size())
    a.parts.push_back(RnsPoly::Zero(params_->limbs(a.level), params_->n()));
  std::vector<const RnsPoly*> parts;
  for (const RnsPoly& part : b.parts) parts.push_back(&part);
  ApplyInplace(*params_, ActiveKernels().sub, a, parts);
  return {};
}

Result<Ciphertext> Evaluator::Add(const Ciphertext& a, const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(CheckSame("add", a.level, b.level, a.scale, b.scale));
  const bool a_longer = a.parts.size() >= b.parts.size();
  const Ciphertext &longer = a_longer ? a : b, &shorter = a_longer ? b : a;
  Ciphertext result = EmptyLike(*params_, longer);
  result.scale = a.scale;
  ForEachLimb(params_->limbs(a.level), longer.parts.size(), [&](size_t j, size_t k) {
    u64* out = result.parts[k].ptr(j);
    if (k < shorter.parts.size())
      ActiveKernels().add(out, longer.parts[k].ptr(j), shorter.parts[k].ptr(j), params_->n(),
                          params_->q(static_cast<int>(j)));
    else
      std::copy_n(longer.parts[k].ptr(j), params_->n(), out);
  });
  return result;
}

Result<Ciphertext> Evaluator::Sub(const Ciphertext& a, const Ciphertext& b) const {
  Ciphertext result = a;
  PV_RETURN_IF_ERROR(SubInplace(result, b));
  return result;
}

Ciphertext Evaluator::Negate(const Ciphertext& a) const {
  Ciphertext result = EmptyLike(*params_, a);
  ForEachLimb(params_->limbs(a.level), a.parts.size(), [&](size_t j, size_t k) {
    ActiveKernels().negate(result.parts[k].ptr(j), a.parts[k].ptr(j), params_->n(),
                           params_->q(static_cast<int>(j)));
  });
  return result;
}

Result<Ciphertext> Evaluator::AddPlain(const Ciphertext& a, const Plaintext& b) const {
  PV_RETURN_IF_ERROR(CheckPlain("add plaintext", a, b));
  PV_RETURN_IF_ERROR(CheckSame("add plaintext", a.level, a.level, a.scale, b.scale));
  Ciphertext result = a;
  const RnsPoly* part = &b.poly;
  ApplyInplace(*params_, ActiveKernels().add, result, {&part, 1});
  return result;
}

Result<Ciphertext> Evaluator::SubPlain(const Ciphertext& a, const Plaintext& b) const {
  PV_RETURN_IF_ERROR(CheckPlain("sub plaintext", a, b));
  PV_RETURN_IF_ERROR(CheckSame("sub plaintext", a.level, a.level, a.scale, b.scale));
  Ciphertext result = a;
  const RnsPoly* part = &b.poly;
  ApplyInplace(*params_, ActiveKernels().sub, result, {&part, 1});
  return result;
}

void Evaluator::AddConstantInplace(Ciphertext& a, Complex value) const {
  const size_t half = params_->n() / 2;
  ParallelFor(params_->limbs(a.level), [&](size_t j) {
    const ring::NttTables& tables = params_->q_table(static_cast<int>(j));
    const Modulus& q = tables.modulus();
    const u64 re = RoundedResidue(value.real() * a.scale, q);
    const u64 im = q.Mul(RoundedResidue(value.imag() * a.scale, q), ImaginaryUnit(tables));
    u64* words = a.parts[0].ptr(j);
    AddWord(words, q.Add(re, im), half, q.q);
    AddWord(words + half, q.Sub(re, im), half, q.q);
  });
}

Ciphertext Evaluator::AddConstant(const Ciphertext& a, Complex value) const {
  Ciphertext result = a;
  AddConstantInplace(result, value);
  return result;
}

Ciphertext Evaluator::MulInteger(const Ciphertext& a, i64 value) const {
  Ciphertext result = EmptyLike(*params_, a);
  ForEachLimb(params_->limbs(a.level), a.parts.size(), [&](size_t j, size_t k) {
    const Modulus& q = params_->q(static_cast<int>(j));
    ActiveKernels().mul_scalar(result.parts[k].ptr(j), a.parts[k].ptr(j), q.ReduceSigned(value),
                               params_->n(), q);
  });
  return result;
}

Ciphertext Evaluator::MulByI(const Ciphertext& a) const {
  Ciphertext result = EmptyLike(*params_, a);
  const size_t half = params_->n() / 2;
  ForEachLimb(params_->limbs(a.level), a.parts.size(), [&](size_t j, size_t k) {
    const ring::NttTables& tables = params_->q_table(static_cast<int>(j));
    const Modulus& q = tables.modulus();
    const u64 unit = ImaginaryUnit(tables);
    const u64* in = a.parts[k].ptr(j);
    u64* out = result.parts[k].ptr(j);
    ActiveKernels().mul_scalar(out, in, unit, half, q);
    ActiveKernels().mul_scalar(out + half, in + half, q.Negate(unit), half, q);
  });
  return result;
}

Result<Ciphertext> Evaluator::MulPlain(const Ciphertext& a, const Plaintext& b) const {
  PV_RETURN_IF_ERROR(CheckPlain("multiply by plaintext", a, b));
  Ciphertext result = EmptyLike(*params_, a);
  result.scale = a.scale * b.scale;
  ForEachLimb(params_->limbs(a.level), a.parts.size(), [&](size_t j, size_t k) {
    ActiveKernels().mul(result.parts[k].ptr(j), a.parts[k].ptr(j), b.poly.ptr(j), params_->n(),
                        params_->q(static_cast<int>(j)));
  });
  return result;
}

Result<Ciphertext> Evaluator::MulPlainSum(std::span<const Ciphertext* const> a,
                                          std::span<const Plaintext* const> b) const {
  PV_CHECK(!a.empty() && a.size() == b.size() && a.size() <= ring::kMaxProducts,
           "{} ciphertexts, {} plaintexts", a.size(), b.size());
  const double scale = a[0]->scale * b[0]->scale;
  for (size_t i = 0; i < a.size(); ++i) {
    PV_RETURN_IF_ERROR(CheckPlain("sum of products", *a[i], *b[i]));
    PV_RETURN_IF_ERROR(
        CheckSame("sum of products", a[0]->level, a[i]->level, scale, a[i]->scale * b[i]->scale));
    PV_CHECK(a[i]->degree() == 1, "degree {}", a[i]->degree());
  }
  Ciphertext result = EmptyLike(*params_, *a[0]);
  result.scale = scale;
  ParallelFor(params_->limbs(result.level), [&](size_t j) {
    const u64 *plain[ring::kMaxProducts], *c0[ring::kMaxProducts], *c1[ring::kMaxProducts];
    for (size_t i = 0; i < a.size(); ++i) {
      plain[i] = b[i]->poly.ptr(j);
      c0[i] = a[i]->parts[0].ptr(j);
      c1[i] = a[i]->parts[1].ptr(j);
    }
    ActiveKernels().inner_product2(result.parts[0].ptr(j), result.parts[1].ptr(j), plain, c0, c1,
                                   a.size(), params_->n(), params_->q(static_cast<int>(j)));
  });
  return result;
}

Ciphertext Evaluator::MulConstant(const Ciphertext& a, double value, double constant_scale) const {
  Ciphertext result = EmptyLike(*params_, a);
  result.scale = a.scale * constant_scale;
  ForEachLimb(params_->limbs(a.level), a.parts.size(), [&](size_t j, size_t k) {
    const Modulus& q = params_->q(static_cast<int>(j));
    ActiveKernels().mul_scalar(result.parts[k].ptr(j), a.parts[k].ptr(j),
                               RoundedResidue(value * constant_scale, q), params_->n(), q);
  });
  return result;
}

Status Evaluator::MulConstantAccumulate(Ciphertext& sum, const Ciphertext& a, double value) const {
  if (a.level < sum.level || a.parts.size() > sum.parts.size())
    return MakeError(ErrorCode::kMismatch,
                     "accumulate multiple: level {} < {}, or degree {} against {}", a.level,
                     sum.level, a.degree(), sum.degree());
  const double factor = value * (sum.scale / a.scale);
  ForEachLimb(params_->limbs(sum.level), a.parts.size(), [&](size_t j, size_t k) {
    const Modulus& q = params_->q(static_cast<int>(j));
    u64* out = sum.parts[k].ptr(j);
    ActiveKernels().mul_scalar_add(out, a.parts[k].ptr(j), RoundedResidue(factor, q), out,
                                   params_->n(), q);
  });
  return {};
}

Status Evaluator::RescaleInplace(Ciphertext& a) const {
  if (a.level == 0)
    return MakeError(ErrorCode::kOutOfRange,
                     "rescale: level = 0, no prime to drop (scale 2^{:.1f})", std::log2(a.scale));
  switcher_->Rescale(a.parts, params_->limbs(a.level));
  a.scale /= static_cast<double>(params_->q(params_->limbs(a.level) - 1).q);
  a.level -= 1;
  return {};
}

Status Evaluator::DropLevelInplace(Ciphertext& a, int level) const {
  if (level < 0 || level > a.level)
    return MakeError(ErrorCode::kMismatch, "drop to level {}: ciphertext is at level {}", level,
                     a.level);
  for (RnsPoly& part : a.parts) part.Truncate(params_->limbs(level));
  a.level = level;
  return {};
}

Result<Ciphertext> Evaluator::AdjustTo(const Ciphertext& a, int level, double scale) const {
  if (level == a.level) {
    PV_RETURN_IF_ERROR(CheckSame("adjust", a.level, level, a.scale, scale));
    Ciphertext result = a;
    result.scale = scale;
    return result;
  }
  if (level < 0 || level > a.level)
    return MakeError(ErrorCode::kMismatch, "adjust to level {}: ciphertext is at level {}", level,
                     a.level);
  const int upper = level + 1;
  const double prime = static_cast<double>(params_->q(params_->limbs(upper) - 1).q);
  const double factor = std::round(scale * prime / a.scale);
  if (!(factor >= 0x1p20))
    return MakeError(ErrorCode::kOutOfRange,
                     "adjust: scale 2^{:.2f} to 2^{:.2f} at level {}: factor 2^{:.1f} < 2^20",
                     std::log2(a.scale), std::log2(scale), level, std::log2(factor));
  Ciphertext result;
  result.level = upper;
  result.scale = scale * prime;
  for (const RnsPoly& part : a.parts) {
    RnsPoly& out = result.parts.emplace_back(params_->limbs(upper), params_->n());
    ParallelFor(out.limbs(), [&](size_t j) {
      const Modulus& q = params_->q(static_cast<int>(j));
      ActiveKernels().mul_scalar(out.ptr(j), part.ptr(j), RoundedResidue(factor, q), params_->n(),
                                 q);
    });
  }
  PV_RETURN_IF_ERROR(RescaleInplace(result));
  result.scale = scale;
  return result;
}

}  // namespace polyveil::ckks
