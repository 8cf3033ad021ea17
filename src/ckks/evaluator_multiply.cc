// Ciphertext products and relinearisation.
#include "base/thread_pool.h"
#include "ckks/evaluator.h"
#include "ckks/key_switch.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::RnsPoly;

}  // namespace

// The three parts of a b at `level`, at most the lower of the two; limbs above are not read.
Ciphertext Evaluator::Product(const Ciphertext& a, const Ciphertext& b, int level) const {
  const size_t n = params_->n(), limbs = params_->limbs(level);
  Ciphertext result;
  result.level = level;
  result.scale = a.scale * b.scale;
  for (int k = 0; k < 3; ++k) result.parts.emplace_back(limbs, n);
  ParallelFor(limbs, [&](size_t j) {
    const Modulus& q = params_->q(static_cast<int>(j));
    const ring::Kernels& kernels = ActiveKernels();
    const u64 *a0 = a.parts[0].ptr(j), *a1 = a.parts[1].ptr(j);
    const u64 *b0 = b.parts[0].ptr(j), *b1 = b.parts[1].ptr(j);
    const u64 *left[2] = {a0, a1}, *right[2] = {b1, b0};
    kernels.mul(result.parts[0].ptr(j), a0, b0, n, q);
    kernels.inner_product(result.parts[1].ptr(j), left, right, 2, n, q);
    kernels.mul(result.parts[2].ptr(j), a1, b1, n, q);
  });
  return result;
}

Result<Ciphertext> Evaluator::MulNoRelin(const Ciphertext& a, const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(CheckDegreeOne("multiply", a));
  PV_RETURN_IF_ERROR(CheckDegreeOne("multiply", b));
  return Product(a, b, std::min(a.level, b.level));
}

Result<Ciphertext> Evaluator::SquareNoRelin(const Ciphertext& a) const { return MulNoRelin(a, a); }

Status Evaluator::MulAccumulateNoRelin(Ciphertext& sum, const Ciphertext& a,
                                       const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(CheckDegreeOne("multiply", a));
  PV_RETURN_IF_ERROR(CheckDegreeOne("multiply", b));
  if (sum.degree() != 2 || sum.level > std::min(a.level, b.level))
    return MakeError(
        ErrorCode::kMismatch,
        "accumulate product: sum of degree {} at level {}, factors at levels {} and {}",
        sum.degree(), sum.level, a.level, b.level);
  if (!SameScale(sum.scale, a.scale * b.scale))
    return MakeError(ErrorCode::kMismatch, "accumulate product: scales {} and {}", sum.scale,
                     a.scale * b.scale);
  const size_t n = params_->n();
  ParallelFor(params_->limbs(sum.level), [&](size_t j) {
    const Modulus& q = params_->q(static_cast<int>(j));
    const ring::Kernels& kernels = ActiveKernels();
    const u64 *a0 = a.parts[0].ptr(j), *a1 = a.parts[1].ptr(j);
    const u64 *b0 = b.parts[0].ptr(j), *b1 = b.parts[1].ptr(j);
    u64 *s0 = sum.parts[0].ptr(j), *s1 = sum.parts[1].ptr(j), *s2 = sum.parts[2].ptr(j);
    kernels.mul_add(s0, a0, b0, s0, n, q);
    kernels.mul_add(s1, a0, b1, s1, n, q);
    kernels.mul_add(s1, a1, b0, s1, n, q);
    kernels.mul_add(s2, a1, b1, s2, n, q);
  });
  return {};
}

Result<std::vector<Ciphertext>> Evaluator::RelinearizeWith(std::span<const Ciphertext* const> a,
                                                           bool rescale) const {
  if (a.empty()) return std::vector<Ciphertext>();
  const int level = a[0]->level;
  for (const Ciphertext* one : a) {
    if (one->degree() != 2)
      return MakeError(ErrorCode::kMismatch, "relinearize: degree {}, expected 2", one->degree());
    if (one->level != level)
      return MakeError(ErrorCode::kMismatch, "relinearize: levels {} and {} in one batch", level,
                       one->level);
  }
  if (rescale && level == 0)
    return MakeError(ErrorCode::kOutOfRange, "rescale: level = 0, no prime to drop");
  PV_RETURN_IF_ERROR(RequireKeys("relinearize"));
  PV_ASSIGN_OR_RETURN(const KeySwitchKey* const key, keys_->FindRelinearization(*params_, level));
  return RelinearizeWithKey(a, *key, rescale);
}

std::vector<Ciphertext> Evaluator::RelinearizeWithKey(std::span<const Ciphertext* const> a,
                                                      const KeySwitchKey& key, bool rescale) const {
  const int level = a[0]->level, special = params_->special_primes(key.level);
  const size_t limbs = params_->limbs(level);
  std::vector<const RnsPoly*> c2;
  std::vector<BlockEpilogue> epilogues(a.size());
  for (size_t k = 0; k < a.size(); ++k) {
    c2.push_back(&a[k]->parts[2]);
    if (!rescale) continue;
    // P a joins the sum before the one division by P q_level.
    epilogues[k] = [this, limbs, special, parts = a[k]->parts.data()](const Block& block, u64* acc0,
                                                                      u64* acc1) {
      const auto [j, begin, words] = block;
      if (j >= limbs) return;
      const Modulus& q = params_->q(static_cast<int>(j));
      const u64 p = switcher_->p_mod_q(special, j);
      ActiveKernels().mul_scalar_add(acc0, parts[0].ptr(j) + begin, p, acc0, words, q);
      ActiveKernels().mul_scalar_add(acc1, parts[1].ptr(j) + begin, p, acc1, words, q);
    };
  }
  std::vector<std::vector<RnsPoly>> digits(a.size());
  ParallelFor(a.size(), [&](size_t k) { digits[k] = switcher_->ModUp(*c2[k], level, special); });
  const std::vector<ExtendedCiphertext> sums =
      switcher_->InnerProductMany(c2, digits, level, key, /*permutation=*/nullptr, epilogues);
  digits.clear();
  std::vector<Ciphertext> results(a.size());
  ParallelFor(a.size(), [&](size_t k) {
    const auto add = [&](const Block& block, u64* out0, u64* out1) {
      const auto [j, begin, words] = block;
      const Modulus& q = params_->q(static_cast<int>(j));
      ActiveKernels().add(out0, out0, a[k]->parts[0].ptr(j) + begin, words, q);
      ActiveKernels().add(out1, out1, a[k]->parts[1].ptr(j) + begin, words, q);
    };
    const RnsPoly* const parts[] = {&sums[k].c0, &sums[k].c1};
    results[k].level = level - rescale;
    results[k].scale =
        rescale ? a[k]->scale / static_cast<double>(params_->q(static_cast<int>(limbs) - 1).q)
                : a[k]->scale;
    results[k].parts =
        switcher_->ModDown(parts, level, rescale, rescale ? BlockEpilogue() : BlockEpilogue(add));
  });
  return results;
}

Result<Ciphertext> Evaluator::RelinearizeOne(const Ciphertext& a, bool rescale) const {
  const Ciphertext* const one = &a;
  PV_ASSIGN_OR_RETURN(std::vector<Ciphertext> results, RelinearizeWith({&one, 1}, rescale));
  return std::move(results[0]);
}

Result<std::vector<Ciphertext>> Evaluator::RelinearizeRescaleMany(
    std::span<const Ciphertext* const> a) const {
  return RelinearizeWith(a, true);
}

Result<Ciphertext> Evaluator::Relinearize(const Ciphertext& a) const {
  if (a.degree() == 1) return a;
  return RelinearizeOne(a, false);
}

Result<Ciphertext> Evaluator::RelinearizeRescale(const Ciphertext& a) const {
  if (a.degree() == 1) {
    Ciphertext result = a;
    PV_RETURN_IF_ERROR(RescaleInplace(result));
    return result;
  }
  return RelinearizeOne(a, true);
}

Result<Ciphertext> Evaluator::Mul(const Ciphertext& a, const Ciphertext& b) const {
  PV_ASSIGN_OR_RETURN(const Ciphertext product, MulNoRelin(a, b));
  return RelinearizeOne(product, false);
}

Result<Ciphertext> Evaluator::Square(const Ciphertext& a) const { return Mul(a, a); }

Result<Ciphertext> Evaluator::MulRescale(const Ciphertext& a, const Ciphertext& b) const {
  PV_ASSIGN_OR_RETURN(const Ciphertext product, MulNoRelin(a, b));
  return RelinearizeOne(product, true);
}

Result<Ciphertext> Evaluator::SquareRescale(const Ciphertext& a) const { return MulRescale(a, a); }

}  // namespace polyveil::ckks
