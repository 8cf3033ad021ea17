#include "ckks/key_switch.h"

#include <array>

#include "base/thread_pool.h"
#include "ckks/key_limb.h"
#include "ring/automorphism.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::RnsPoly;

// Three of these, a product's two halves and a scratch, fit the L1 cache.
constexpr size_t kBlockWords = 1024;

// Position of extended limb j in the limbs of a digit that leaves out its own [begin, end).
size_t WithoutOwn(size_t j, size_t begin, size_t end) { return j < begin ? j : j - (end - begin); }

}  // namespace

KeySwitcher::KeySwitcher(ParametersPtr params)
    : params_(std::move(params)),
      levels_((params_->max_level() + 1) * (params_->p_count() + 1)),
      level_once_(std::make_unique<std::once_flag[]>(levels_.size())),
      p_mod_q_(params_->p_count() + 1),
      p_inverse_(params_->p_count() + 1) {
  const Parameters& p = *params_;
  for (int j = 0; j < p.q_count(); ++j) {
    const Modulus& q = p.q(j);
    u64 product = 1;
    for (int special = 0; special <= p.p_count(); ++special) {
      if (special > 0) product = q.Mul(product, q.Reduce(p.p(special - 1).q));
      p_mod_q_[special].push_back(product);
      p_inverse_[special].push_back(q.Inverse(product));
    }
    std::vector<u64>& row = q_inverse_.emplace_back();  // of q_j modulo those below
    for (int k = 0; k < j; ++k) row.push_back(p.q(k).Inverse(p.q(k).Reduce(q.q)));
  }
}

const KeySwitcher::LevelTables& KeySwitcher::Level(int level, int special) const {
  const size_t index = static_cast<size_t>(level) * (params_->p_count() + 1) + special;
  std::call_once(level_once_[index], [&] { levels_[index] = MakeLevel(level, special); });
  return levels_[index];
}

KeySwitcher::LevelTables KeySwitcher::MakeLevel(int level, int special) const {
  const Parameters& p = *params_;
  const int limbs = p.limbs(level), extended = p.extended_limbs(level, special);
  const auto moduli = [&](int begin, int end) {
    std::vector<Modulus> list;
    for (int j = begin; j < end; ++j) list.push_back(p.extended_table(level, j).modulus());
    return list;
  };
  LevelTables tables;
  for (int i = 0; i < p.digits(level, special); ++i) {
    const int begin = p.digit_begin(special, i), end = p.digit_end(level, special, i);
    std::vector<Modulus> others = moduli(0, begin);
    const std::vector<Modulus> rest = moduli(end, extended);
    others.insert(others.end(), rest.begin(), rest.end());
    tables.mod_up.emplace_back(moduli(begin, end), others);
  }
  tables.mod_down =
      std::make_unique<ring::BaseConverter>(moduli(limbs, extended), moduli(0, limbs));
  if (level > 0)
    tables.mod_down_rescale =
        std::make_unique<ring::BaseConverter>(moduli(limbs - 1, extended), moduli(0, limbs - 1));
  return tables;
}

std::vector<RnsPoly> KeySwitcher::ModUp(const RnsPoly& c, int level, int special) const {
  const Parameters& p = *params_;
  const LevelTables& tables = Level(level, special);
  const size_t n = p.n(), limbs = p.limbs(level), extended = p.extended_limbs(level, special);
  std::vector<u64> premultipliers;  // of the limbs, digit after digit
  for (const ring::BaseConverter& converter : tables.mod_up)
    for (size_t j = 0; j < converter.from_count(); ++j)
      premultipliers.push_back(converter.premultiplier(j));
  RnsPoly coefficients(limbs, n);
  ParallelFor(limbs, [&](size_t j) {
    ActiveKernels().inverse_ntt(coefficients.ptr(j), c.ptr(j), p.q_table(static_cast<int>(j)),
                                premultipliers[j]);
  });
  std::vector<RnsPoly> digits;
  for (size_t i = 0; i < tables.mod_up.size(); ++i) {
    const ring::BaseConverter& converter = tables.mod_up[i];
    RnsPoly& digit = digits.emplace_back(extended - converter.from_count(), n);
    std::vector<const u64*> in;
    std::vector<u64*> out;
    for (size_t j = 0; j < converter.from_count(); ++j)
      in.push_back(coefficients.ptr(p.digit_begin(special, static_cast<int>(i)) + j));
    for (size_t j = 0; j < digit.limbs(); ++j) out.push_back(digit.ptr(j));
    converter.ConvertPremultiplied(out.data(), in.data(), n);
  }
  return digits;
}

void KeySwitcher::TransformDigits(std::vector<RnsPoly>& digits, int level, int special) const {
  const Parameters& p = *params_;
  const size_t extended = p.extended_limbs(level, special);
  ParallelFor(extended * digits.size(), [&](size_t item) {
    const size_t j = item / digits.size(), i = item % digits.size();
    const size_t begin = p.digit_begin(special, static_cast<int>(i));
    const size_t end = p.digit_end(level, special, static_cast<int>(i));
    if (j >= begin && j < end) return;
    u64* limb = digits[i].ptr(WithoutOwn(j, begin, end));
    ActiveKernels().forward_ntt(limb, limb, p.extended_table(level, static_cast<int>(j)));
  });
}

// One block of one polynomial: words [begin, begin + words) of limb j of the digits times the
// key's.
void KeySwitcher::InnerProductBlock(const Block& block, const Share& share, int level, int special,
                                    const u32* permutation, const u64* const* b,
                                    const u64* const* a, u64* scratch) const {
  const Parameters& p = *params_;
  const auto [j, offset, words] = block;
  const size_t count = share.digits->size();
  std::array<const u64*, ring::kMaxProducts> d;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = p.digit_begin(special, static_cast<int>(i));
    const size_t end = p.digit_end(level, special, static_cast<int>(i));
    d[i] =
        j >= begin && j < end ? share.c->ptr(j) : (*share.digits)[i].ptr(WithoutOwn(j, begin, end));
    if (!permutation) d[i] += offset;
  }
  const Modulus& q = p.extended_table(level, static_cast<int>(j)).modulus();
  const ring::Kernels& kernels = ActiveKernels();
  u64* acc0 = share.sum ? share.sum->c0.ptr(j) + offset : scratch;
  u64* acc1 = share.sum ? share.sum->c1.ptr(j) + offset : scratch + words;
  if (permutation)
    kernels.inner_product2_permuted(acc0, acc1, d.data(), permutation + offset, b, a, count, words,
                                    q);
  else
    kernels.inner_product2(acc0, acc1, d.data(), b, a, count, words, q);
  if (share.epilogue && *share.epilogue) (*share.epilogue)(block, acc0, acc1);
}

void KeySwitcher::InnerProductLimb(size_t j, std::span<const Share> shares, int level,
                                   const KeySwitchKey& key, const u32* permutation) const {
  const Parameters& p = *params_;
  const size_t limbs = p.limbs(level), n = p.n(), words = std::min(n, kBlockWords);
  const int special = p.special_primes(key.level);
  KeyLimbReader reader(p, key, j < limbs ? j : p.limbs(key.level) + (j - limbs),
                       shares[0].digits->size());
  std::array<const u64*, ring::kMaxProducts> b, a;
  Buffer scratch(2 * words), expanded(reader.ScratchWords(words));
  for (size_t begin = 0; begin < n; begin += words) {
    reader.Next(words, expanded.data(), b.data(), a.data());
    for (const Share& share : shares)
      InnerProductBlock({j, begin, words}, share, level, special, permutation, b.data(), a.data(),
                        scratch.data());
  }
}

void KeySwitcher::TransformLimb(size_t j, std::vector<RnsPoly>& digits, int level,
                                int special) const {
  const Parameters& p = *params_;
  for (size_t i = 0; i < digits.size(); ++i) {
    const size_t begin = p.digit_begin(special, static_cast<int>(i));
    const size_t end = p.digit_end(level, special, static_cast<int>(i));
    if (j >= begin && j < end) continue;
    u64* limb = digits[i].ptr(WithoutOwn(j, begin, end));
    ActiveKernels().forward_ntt(limb, limb, p.extended_table(level, static_cast<int>(j)));
  }
}

std::vector<ExtendedCiphertext> KeySwitcher::InnerProductMany(
    std::span<const RnsPoly* const> c, std::span<std::vector<RnsPoly>> digits, int level,
    const KeySwitchKey& key, const u32* permutation,
    std::span<const BlockEpilogue> epilogues) const {
  const Parameters& p = *params_;
  const int special = p.special_primes(key.level);
  const size_t extended = p.extended_limbs(level, special), n = p.n();
  std::vector<ExtendedCiphertext> sums;
  for (size_t k = 0; k < c.size(); ++k)
    sums.push_back({RnsPoly(extended, n), RnsPoly(extended, n), level, 1});
  std::vector<Share> shares;
  for (size_t k = 0; k < c.size(); ++k) {
    CheckKey(key, digits[k], level, special);
    shares.push_back({c[k], &digits[k], &sums[k], epilogues.empty() ? nullptr : &epilogues[k]});
  }
  // One limb of all digits at a time: transformed, then multiplied while it is in the cache.
  ParallelFor(extended, [&](size_t j) {
    for (std::vector<RnsPoly>& own : digits) TransformLimb(j, own, level, special);
    InnerProductLimb(j, shares, level, key, permutation);
  });
  return sums;
}

void KeySwitcher::StreamInnerProducts(const RnsPoly& c, std::vector<RnsPoly>& digits, int level,
                                      std::span<const AutomorphismKey> keys,
                                      const KeyEpilogue& epilogue) const {
  const int special = params_->special_primes(keys[0].key->level);
  for (const AutomorphismKey& use : keys) CheckKey(*use.key, digits, level, special);
  ParallelFor(params_->extended_limbs(level, special), [&](size_t j) {
    TransformLimb(j, digits, level, special);
    for (const AutomorphismKey& use : keys) {
      const u32* permutation = use.permutation->data();
      const BlockEpilogue with_permutation = [&](const Block& block, u64* acc0, u64* acc1) {
        epilogue(block, acc0, acc1, permutation + block.begin);
      };
      const Share share{&c, &digits, nullptr, &with_permutation};
      InnerProductLimb(j, {&share, 1}, level, *use.key, permutation);
    }
  });
}

ExtendedCiphertext KeySwitcher::InnerProductHoisted(const RnsPoly& c,
                                                    const std::vector<RnsPoly>& digits, int level,
                                                    const KeySwitchKey& key, const u32* permutation,
                                                    const BlockEpilogue& epilogue) const {
  const Parameters& p = *params_;
  const int special = p.special_primes(key.level);
  const size_t extended = p.extended_limbs(level, special), n = p.n();
  CheckKey(key, digits, level, special);
  ExtendedCiphertext sum{RnsPoly(extended, n), RnsPoly(extended, n), level, 1};
  const Share share{&c, &digits, &sum, &epilogue};
  ParallelFor(extended, [&](size_t j) {
    InnerProductLimb(j, {&share, 1}, level, key, permutation);
  });
  return sum;
}

void KeySwitcher::CheckKey(const KeySwitchKey& key, const std::vector<RnsPoly>& digits, int level,
                           int special) const {
  PV_CHECK(key.kind == KeyKind::kGadget && key.level >= level, "key of level {} at level {}",
           key.level, level);
  const size_t own = params_->digit_end(level, special, 0);
  PV_CHECK(digits.size() == static_cast<size_t>(params_->digits(level, special)) &&
               digits[0].limbs() + own == static_cast<size_t>(params_->limbs(level) + special),
           "{} digits of {} limbs at level {}, the key has {} special primes", digits.size(),
           digits[0].limbs(), level, special);
}

std::vector<RnsPoly> KeySwitcher::ModDown(std::span<const RnsPoly* const> polys, int level,
                                          bool rescale, const BlockEpilogue& epilogue) const {
  const Parameters& p = *params_;
  const size_t n = p.n(), out_limbs = p.limbs(level) - rescale;
  const int special = SpecialOf(*polys[0], level);
  const LevelTables& level_tables = Level(level, special);
  const ring::BaseConverter& converter =
      rescale ? *level_tables.mod_down_rescale : *level_tables.mod_down;
  const size_t dropped = converter.from_count();
  std::vector<RnsPoly> remainders;
  for (const RnsPoly* poly : polys) {
    RnsPoly coefficients(dropped, n);
    ParallelFor(dropped, [&](size_t k) {
      ActiveKernels().inverse_ntt(coefficients.ptr(k), poly->ptr(out_limbs + k),
                                  p.extended_table(level, static_cast<int>(out_limbs + k)),
                                  converter.premultiplier(k));
    });
    RnsPoly& remainder = remainders.emplace_back(out_limbs, n);
    std::vector<const u64*> in;
    std::vector<u64*> out;
    for (size_t k = 0; k < dropped; ++k) in.push_back(coefficients.ptr(k));
    for (size_t j = 0; j < out_limbs; ++j) out.push_back(remainder.ptr(j));
    converter.ConvertPremultiplied(out.data(), in.data(), n);
  }
  ParallelFor(out_limbs, [&](size_t j) {
    const ring::Kernels& kernels = ActiveKernels();
    const ring::NttTables& tables = p.q_table(static_cast<int>(j));
    const Modulus& q = tables.modulus();
    u64 inverse = p_inverse_[special][j];
    if (rescale) inverse = q.Mul(inverse, q_inverse_[out_limbs][j]);
    for (RnsPoly& remainder : remainders)
      kernels.forward_ntt(remainder.ptr(j), remainder.ptr(j), tables);
    const size_t words = std::min(n, kBlockWords);
    for (size_t begin = 0; begin < n; begin += words) {
      u64* accumulators[2] = {nullptr, nullptr};
      for (size_t k = 0; k < polys.size(); ++k) {
        u64* out = accumulators[k] = remainders[k].ptr(j) + begin;
        kernels.sub_mul_scalar(out, polys[k]->ptr(j) + begin, out, inverse, words, q);
      }
      if (epilogue) epilogue({j, begin, words}, accumulators[0], accumulators[1]);
    }
  });
  return remainders;
}

void KeySwitcher::Rescale(std::vector<RnsPoly>& polys, size_t limbs) const {
  const Parameters& p = *params_;
  const size_t n = p.n(), last = limbs - 1;
  const ring::NttTables& last_table = p.q_table(static_cast<int>(last));
  ParallelFor(polys.size(), [&](size_t k) {
    u64* limb = polys[k].ptr(last);
    ActiveKernels().inverse_ntt(limb, limb, last_table, 1);
  });
  ParallelFor(last * polys.size(), [&](size_t item) {
    const size_t j = item / polys.size();
    RnsPoly& poly = polys[item % polys.size()];
    const ring::Kernels& kernels = ActiveKernels();
    const ring::NttTables& tables = p.q_table(static_cast<int>(j));
    Buffer remainder(n);
    kernels.reduce_from(remainder.data(), poly.ptr(last), n, last_table.modulus(), tables.modulus(),
                        true);
    kernels.forward_ntt(remainder.data(), remainder.data(), tables);
    kernels.sub_mul_scalar(poly.ptr(j), poly.ptr(j), remainder.data(), q_inverse_[last][j], n,
                           tables.modulus());
  });
  for (RnsPoly& poly : polys) poly.Truncate(last);
}

size_t KeySwitcher::permutation_bytes() const {
  std::shared_lock lock(permutations_mutex_);
  return permutations_.size() * params_->n() * sizeof(u32);
}

std::shared_ptr<const std::vector<u32>> KeySwitcher::Permutation(u64 galois_element) const {
  {
    std::shared_lock lock(permutations_mutex_);
    const auto entry = permutations_.find(galois_element);
    if (entry != permutations_.end()) return entry->second;
  }
  auto table =
      std::make_shared<const std::vector<u32>>(ring::NttAutomorphism(galois_element, params_->n()));
  std::unique_lock lock(permutations_mutex_);
  return permutations_.try_emplace(galois_element, std::move(table)).first->second;
}

}  // namespace polyveil::ckks
