// Rotations, hoisting and sums over QP, ModRaise.
#include "base/thread_pool.h"
#include "ckks/evaluator.h"
#include "ckks/key_switch.h"
#include "ckks/mod_raise.h"
#include "ring/automorphism.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::RnsPoly;

int Reduce(int rotation, int slots) { return ((rotation % slots) + slots) % slots; }

// All ciphertexts of a batch share a key, and so a level.
Status CheckLevel(const char* operation, const Ciphertext& a, int level) {
  if (a.level == level) return {};
  return MakeError(ErrorCode::kMismatch, "{}: levels {} and {} in one batch", operation, level,
                   a.level);
}

Status CheckSum(const char* operation, const ExtendedCiphertext& sum, size_t limbs, int level,
                double scale) {
  if (sum.level == level && sum.c0.limbs() == limbs && SameScale(sum.scale, scale)) return {};
  return MakeError(
      ErrorCode::kMismatch,
      "{}: sum at level {} with {} limbs, scale {}; term at level {} with {} limbs, scale {}",
      operation, sum.level, sum.c0.limbs(), sum.scale, level, limbs, scale);
}

// A plaintext over QP may have more special primes than the ciphertext, whose limbs it must cover.
Status CheckPlain(const char* operation, const ExtendedCiphertext& a, const Plaintext& b) {
  if (b.with_p && b.level == a.level && b.poly.limbs() >= a.c0.limbs()) return {};
  return MakeError(ErrorCode::kMismatch,
                   "{}: plaintext at level {} {} P, {} limbs; ciphertext over QP at {}, {} limbs",
                   operation, b.level, b.with_p ? "with" : "without", b.poly.limbs(), a.level,
                   a.c0.limbs());
}

}  // namespace

std::vector<Ciphertext> Evaluator::RotateWithKey(std::span<const Ciphertext* const> a,
                                                 u64 galois_element,
                                                 const KeySwitchKey& key) const {
  const int level = a[0]->level;
  const auto permutation = switcher_->Permutation(galois_element);
  std::vector<const RnsPoly*> c1;
  for (const Ciphertext* one : a) c1.push_back(&one->parts[1]);
  std::vector<std::vector<RnsPoly>> digits(a.size());
  ParallelFor(a.size(), [&](size_t k) {
    digits[k] = switcher_->ModUp(*c1[k], level, params_->special_primes(key.level));
  });
  const std::vector<ExtendedCiphertext> sums =
      switcher_->InnerProductMany(c1, digits, level, key, permutation->data());
  digits.clear();
  std::vector<Ciphertext> results(a.size());
  ParallelFor(a.size(), [&](size_t k) {
    results[k].level = level;
    results[k].scale = a[k]->scale;
    const RnsPoly* const parts[] = {&sums[k].c0, &sums[k].c1};
    const auto add = [&](const Block& block, u64* out0, u64*) {
      const auto [j, begin, words] = block;
      Buffer rotated(words);
      ActiveKernels().permute(rotated.data(), a[k]->parts[0].ptr(j), permutation->data() + begin,
                              words);
      ActiveKernels().add(out0, out0, rotated.data(), words, params_->q(static_cast<int>(j)));
    };
    results[k].parts = switcher_->ModDown(parts, level, false, add);
  });
  return results;
}

Result<Ciphertext> Evaluator::Rotate(const Ciphertext& a, int rotation) const {
  const Ciphertext* const one = &a;
  PV_ASSIGN_OR_RETURN(std::vector<Ciphertext> results, RotateMany({&one, 1}, rotation));
  return std::move(results[0]);
}

Result<std::vector<Ciphertext>> Evaluator::RotateMany(std::span<const Ciphertext* const> a,
                                                      int rotation) const {
  std::vector<Ciphertext> copies;
  if (a.empty()) return copies;
  const int level = a[0]->level, reduced = Reduce(rotation, params_->slots());
  for (const Ciphertext* one : a) {
    PV_RETURN_IF_ERROR(CheckDegreeOne("rotate", *one));
    PV_RETURN_IF_ERROR(CheckLevel("rotate", *one, level));
    if (reduced == 0) copies.push_back(*one);
  }
  if (reduced == 0) return copies;
  PV_RETURN_IF_ERROR(RequireKeys("rotate"));
  PV_ASSIGN_OR_RETURN(const KeySwitchKey* const key, keys_->FindRotation(*params_, reduced, level));
  return RotateWithKey(a, ring::GaloisElement(reduced, params_->n()), *key);
}

Result<Ciphertext> Evaluator::Conjugate(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(CheckDegreeOne("conjugate", a));
  PV_RETURN_IF_ERROR(RequireKeys("conjugate"));
  PV_ASSIGN_OR_RETURN(const KeySwitchKey* const key, keys_->FindConjugation(*params_, a.level));
  const Ciphertext* const one = &a;
  return std::move(RotateWithKey({&one, 1}, ring::ConjugationElement(params_->n()), *key)[0]);
}

Result<HoistedDigits> Evaluator::Decompose(const Ciphertext& a, int key_level) const {
  PV_RETURN_IF_ERROR(CheckDegreeOne("decompose", a));
  if (key_level >= 0 && (key_level < a.level || key_level > params_->max_level()))
    return MakeError(ErrorCode::kMismatch, "decompose: key level {}, ciphertext level {} of {}",
                     key_level, a.level, params_->max_level());
  HoistedDigits result;
  result.level = a.level;
  if (key_level < 0 && keys_) result.special = keys_->CommonSpecial(*params_, a.level);
  if (result.special == 0)
    result.special = params_->special_primes(key_level < 0 ? a.level : key_level);
  result.digits = switcher_->ModUp(a.parts[1], a.level, result.special);
  switcher_->TransformDigits(result.digits, a.level, result.special);
  return result;
}

Result<ExtendedCiphertext> Evaluator::RotateHoistedLazy(const Ciphertext& a,
                                                        const HoistedDigits& digits,
                                                        int rotation) const {
  if (digits.level != a.level)
    return MakeError(ErrorCode::kMismatch, "hoisted rotation: digits at level {}, ciphertext at {}",
                     digits.level, a.level);
  PV_RETURN_IF_ERROR(CheckDegreeOne("hoisted rotation", a));
  const int reduced = Reduce(rotation, params_->slots());
  if (reduced == 0) return ExtendBy(a, digits.special);
  PV_RETURN_IF_ERROR(RequireKeys("hoisted rotation"));
  PV_ASSIGN_OR_RETURN(const KeySwitchKey* const key,
                      keys_->FindRotation(*params_, reduced, a.level, digits.special));
  const size_t n = params_->n(), limbs = params_->limbs(a.level);
  const auto permutation = switcher_->Permutation(ring::GaloisElement(reduced, n));
  ExtendedCiphertext result = switcher_->InnerProductHoisted(
      a.parts[1], digits.digits, a.level, *key, permutation->data(),
      [&](const Block& block, u64* acc0, u64*) {
        const auto [j, begin, words] = block;
        if (j >= limbs) return;
        Buffer rotated(words);
        ActiveKernels().permute(rotated.data(), a.parts[0].ptr(j), permutation->data() + begin,
                                words);
        ActiveKernels().mul_scalar_add(acc0, rotated.data(), switcher_->p_mod_q(digits.special, j),
                                       acc0, words, params_->q(static_cast<int>(j)));
      });
  result.scale = a.scale;
  return result;
}

Result<Ciphertext> Evaluator::RotateHoisted(const Ciphertext& a, const HoistedDigits& digits,
                                            int rotation) const {
  if (Reduce(rotation, params_->slots()) == 0) return a;
  PV_ASSIGN_OR_RETURN(const ExtendedCiphertext sum, RotateHoistedLazy(a, digits, rotation));
  return ModDown(sum);
}

ExtendedCiphertext Evaluator::Extend(const Ciphertext& a, int key_level) const {
  return ExtendBy(a, params_->special_primes(key_level < 0 ? a.level : key_level));
}

ExtendedCiphertext Evaluator::ExtendBy(const Ciphertext& a, int special) const {
  PV_CHECK(a.degree() == 1, "degree {}", a.degree());
  const size_t n = params_->n(), limbs = params_->limbs(a.level);
  const size_t extended = params_->extended_limbs(a.level, special);
  ExtendedCiphertext result{RnsPoly(extended, n), RnsPoly(extended, n), a.level, a.scale};
  ParallelFor(2 * extended, [&](size_t item) {
    const size_t j = item / 2;
    u64* out = (item % 2 ? result.c1 : result.c0).ptr(j);
    if (j < limbs)
      ActiveKernels().mul_scalar(out, a.parts[item % 2].ptr(j), switcher_->p_mod_q(special, j), n,
                                 params_->q(static_cast<int>(j)));
    else
      std::fill_n(out, n, u64{0});
  });
  return result;
}

Status Evaluator::MulPlainAccumulate(ExtendedCiphertext& sum, const ExtendedCiphertext& a,
                                     const Plaintext& b) const {
  PV_RETURN_IF_ERROR(CheckSum("accumulate product", sum, a.c0.limbs(), a.level, a.scale * b.scale));
  PV_RETURN_IF_ERROR(CheckPlain("accumulate product", a, b));
  const size_t n = params_->n();
  ParallelFor(a.c0.limbs(), [&](size_t j) {
    const Modulus& q = params_->extended_table(a.level, static_cast<int>(j)).modulus();
    u64 *s0 = sum.c0.ptr(j), *s1 = sum.c1.ptr(j);
    ActiveKernels().mul_add(s0, a.c0.ptr(j), b.poly.ptr(j), s0, n, q);
    ActiveKernels().mul_add(s1, a.c1.ptr(j), b.poly.ptr(j), s1, n, q);
  });
  return {};
}

Result<ExtendedCiphertext> Evaluator::MulPlainSum(std::span<const ExtendedCiphertext* const> a,
                                                  std::span<const Plaintext* const> b) const {
  PV_CHECK(!a.empty() && a.size() == b.size() && a.size() <= ring::kMaxProducts,
           "{} ciphertexts, {} plaintexts", a.size(), b.size());
  const int level = a[0]->level;
  const size_t n = params_->n(), extended = a[0]->c0.limbs();
  ExtendedCiphertext result{RnsPoly(extended, n), RnsPoly(extended, n), level,
                            a[0]->scale * b[0]->scale};
  for (size_t i = 0; i < a.size(); ++i) {
    PV_RETURN_IF_ERROR(CheckSum("sum of products", result, a[i]->c0.limbs(), a[i]->level,
                                a[i]->scale * b[i]->scale));
    PV_RETURN_IF_ERROR(CheckPlain("sum of products", *a[i], *b[i]));
  }
  ParallelFor(extended, [&](size_t j) {
    const u64 *plain[ring::kMaxProducts], *c0[ring::kMaxProducts], *c1[ring::kMaxProducts];
    for (size_t i = 0; i < a.size(); ++i) {
      plain[i] = b[i]->poly.ptr(j);
      c0[i] = a[i]->c0.ptr(j);
      c1[i] = a[i]->c1.ptr(j);
    }
    ActiveKernels().inner_product2(result.c0.ptr(j), result.c1.ptr(j), plain, c0, c1, a.size(), n,
                                   params_->extended_table(level, static_cast<int>(j)).modulus());
  });
  return result;
}

Status Evaluator::AddInplace(ExtendedCiphertext& a, const ExtendedCiphertext& b) const {
  PV_RETURN_IF_ERROR(CheckSum("add over QP", a, b.c0.limbs(), b.level, b.scale));
  ParallelFor(a.c0.limbs(), [&](size_t j) {
    const Modulus& q = params_->extended_table(a.level, static_cast<int>(j)).modulus();
    ActiveKernels().add(a.c0.ptr(j), a.c0.ptr(j), b.c0.ptr(j), params_->n(), q);
    ActiveKernels().add(a.c1.ptr(j), a.c1.ptr(j), b.c1.ptr(j), params_->n(), q);
  });
  return {};
}

// sum += the automorphisms of (c0, c1), of which c1 may be the sum's. The products go straight into
// the sum's limbs: nothing over QP is kept but the sum.
void Evaluator::AccumulateAutomorphisms(ExtendedCiphertext& sum, const RnsPoly& c0,
                                        const RnsPoly& c1,
                                        std::span<const AutomorphismKey> keys) const {
  const int level = sum.level, special = switcher_->SpecialOf(c0, level);
  const RnsPoly* const part = &c1;
  const std::vector<RnsPoly> lowered = switcher_->ModDown({&part, 1}, level, false);
  std::vector<RnsPoly> digits = switcher_->ModUp(lowered[0], level, special);
  switcher_->StreamInnerProducts(
      lowered[0], digits, level, keys,
      [&](const Block& block, u64* acc0, u64* acc1, const u32* permutation) {
        const auto [j, begin, words] = block;
        const Modulus& q = params_->extended_table(level, static_cast<int>(j)).modulus();
        const ring::Kernels& kernels = ActiveKernels();
        u64 *s0 = sum.c0.ptr(j) + begin, *s1 = sum.c1.ptr(j) + begin;
        kernels.add(s0, s0, acc0, words, q);
        kernels.add(s1, s1, acc1, words, q);
        kernels.permute(acc0, c0.ptr(j), permutation, words);
        kernels.add(s0, s0, acc0, words, q);
      });
}

Status Evaluator::RotateAccumulate(ExtendedCiphertext& sum, const ExtendedCiphertext& a,
                                   int rotation) const {
  PV_RETURN_IF_ERROR(CheckSum("rotate over QP", sum, a.c0.limbs(), a.level, a.scale));
  const int reduced = Reduce(rotation, params_->slots());
  if (reduced == 0) return AddInplace(sum, a);
  PV_RETURN_IF_ERROR(RequireKeys("rotate over QP"));
  PV_ASSIGN_OR_RETURN(const AutomorphismKey key, FindRotationKey(a, reduced));
  AccumulateAutomorphisms(sum, a.c0, a.c1, {&key, 1});
  return {};
}

Result<AutomorphismKey> Evaluator::FindRotationKey(const ExtendedCiphertext& a,
                                                   int rotation) const {
  PV_ASSIGN_OR_RETURN(
      const KeySwitchKey* const key,
      keys_->FindRotation(*params_, rotation, a.level, switcher_->SpecialOf(a.c0, a.level)));
  return AutomorphismKey{key, switcher_->Permutation(ring::GaloisElement(rotation, params_->n()))};
}

Result<ExtendedCiphertext> Evaluator::AddRotations(ExtendedCiphertext a,
                                                   std::span<const int> rotations) const {
  PV_RETURN_IF_ERROR(RequireKeys("add rotations"));
  std::vector<AutomorphismKey> keys;
  for (const int rotation : rotations) {
    const int reduced = Reduce(rotation, params_->slots());
    if (reduced == 0)
      return MakeError(ErrorCode::kInvalidArgument, "add rotations: rotation {} is 0 mod {}",
                       rotation, params_->slots());
    PV_ASSIGN_OR_RETURN(keys.emplace_back(), FindRotationKey(a, reduced));
  }
  if (keys.empty()) return MakeError(ErrorCode::kInvalidArgument, "add rotations: 0 rotations");
  const RnsPoly c0 = a.c0;
  AccumulateAutomorphisms(a, c0, a.c1, keys);
  return a;
}

Result<ExtendedCiphertext> Evaluator::AddConjugate(ExtendedCiphertext a) const {
  PV_RETURN_IF_ERROR(RequireKeys("add conjugate"));
  PV_ASSIGN_OR_RETURN(
      const KeySwitchKey* const key,
      keys_->FindConjugation(*params_, a.level, switcher_->SpecialOf(a.c0, a.level)));
  const AutomorphismKey use{key, switcher_->Permutation(ring::ConjugationElement(params_->n()))};
  const RnsPoly c0 = a.c0;
  AccumulateAutomorphisms(a, c0, a.c1, {&use, 1});
  return a;
}

Ciphertext Evaluator::ModDown(const ExtendedCiphertext& a) const {
  const RnsPoly* const parts[] = {&a.c0, &a.c1};
  Ciphertext result;
  result.level = a.level;
  result.scale = a.scale;
  result.parts = switcher_->ModDown(parts, a.level, false);
  return result;
}

Result<Ciphertext> Evaluator::ModDownRescale(const ExtendedCiphertext& a) const {
  if (a.level == 0)
    return MakeError(ErrorCode::kOutOfRange, "rescale: level = 0, no prime to drop");
  const RnsPoly* const parts[] = {&a.c0, &a.c1};
  Ciphertext result;
  result.level = a.level - 1;
  result.scale = a.scale / static_cast<double>(params_->q(params_->limbs(a.level) - 1).q);
  result.parts = switcher_->ModDown(parts, a.level, true);
  return result;
}

Ciphertext Evaluator::KeySwitch(const RnsPoly& c, int level, const KeySwitchKey& key) const {
  std::vector<RnsPoly> digits = switcher_->ModUp(c, level, params_->special_primes(key.level));
  const RnsPoly* const one = &c;
  const auto sums = switcher_->InnerProductMany({&one, 1}, {&digits, 1}, level, key, nullptr);
  digits.clear();
  return ModDown(sums[0]);
}

Result<Ciphertext> Evaluator::ModRaise(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(CheckDegreeOne("ModRaise", a));
  if (a.level != 0)
    return MakeError(ErrorCode::kMismatch, "ModRaise: level = {}, expected 0", a.level);
  PV_RETURN_IF_ERROR(RequireKeys("ModRaise"));
  KeyRequest request;
  request.encapsulation = true;
  PV_RETURN_IF_ERROR(keys_->Covers(*params_, request));
  return RaiseModulus(*params_, a, *keys_->to_sparse, *keys_->to_dense);
}

}  // namespace polyveil::ckks
