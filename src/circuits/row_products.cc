#include "circuits/row_products.h"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>

#include "base/thread_pool.h"
#include "ckks/key_limb.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

using ckks::ExtendedCiphertext;
using ring::kMaxProducts;

// Words per block: 64 babies of two components fit half of a 1 MiB L2; so do 16 plaintexts beside
// 16 babies.
constexpr size_t kBlockWords = 512;
// Blocks lie a line further apart than their size, a power of two: the lines that a sum reads
// together would else have one place in the first cache.
constexpr size_t kLineWords = 8;

struct BabyStep {
  int rotation;
  const ckks::KeySwitchKey* key;  // null: rotation 0
  std::shared_ptr<const std::vector<u32>> permutation;
};

// Everything that the limbs share; read-only.
struct Context {
  const ckks::Parameters& params;
  const ckks::Ciphertext& x;
  const ckks::HoistedDigits& digits;
  const PlaintextRows& rows;
  const std::vector<BabyStep>& babies;
};

Result<std::vector<BabyStep>> FindBabies(const ckks::Evaluator& evaluator, int level,
                                         const PlaintextRows& rows) {
  std::map<int, BabyStep> found;
  const int slots = evaluator.params().slots();
  for (const auto& [giant, row] : rows) {
    for (const auto& [baby, plain] : row) {
      if (found.contains(baby)) continue;
      BabyStep step{baby, nullptr, nullptr};
      if ((baby & (slots - 1)) != 0) {
        if (evaluator.keys() == nullptr) {
          return MakeError(ErrorCode::kMissingKey, "linear transform: no evaluation keys");
        }
        const ckks::Parameters& params = evaluator.params();
        PV_ASSIGN_OR_RETURN(step.key,
                            evaluator.keys()->FindRotation(params, baby & (slots - 1), level,
                                                           params.special_primes(level)));
        step.permutation = evaluator.Permutation(baby);
      }
      found.emplace(baby, step);
    }
  }
  std::vector<BabyStep> babies;
  for (const auto& [rotation, step] : found) babies.push_back(step);
  return babies;
}

// Works on one limb of QP.
class LimbWorker {
 public:
  LimbWorker(const Context& context, size_t limb)
      : c_(context),
        limb_(limb),
        level_(context.x.level),
        special_(context.params.special_primes(level_)),
        n_(context.params.n()),
        block_(std::min(n_, kBlockWords)),
        table_(context.params.extended_table(level_, static_cast<int>(limb))),
        rotated_(2 * stride() * context.babies.size()),
        scratch_((kMaxProducts + 2) * block_) {
    for (int k = 0; k < special_; ++k) p_mod_q_ = Q().Mul(p_mod_q_, Q().Reduce(c_.params.p(k).q));
    ExpandWholeLimbs();
    OpenKeys();
  }

  void Run(std::map<int, ExtendedCiphertext>& sums) {
    for (size_t begin = 0; begin < n_; begin += block_) {
      for (size_t b = 0; b < c_.babies.size(); ++b) Rotate(b, begin);
      for (const auto& [giant, row] : c_.rows) {
        ExtendedCiphertext& sum = sums.at(giant);
        SumRow(row, begin, sum.c0.ptr(limb_) + begin, sum.c1.ptr(limb_) + begin);
      }
    }
  }

 private:
  const ring::Modulus& Q() const { return table_.modulus(); }
  bool InQ() const { return limb_ < static_cast<size_t>(c_.params.limbs(level_)); }
  size_t stride() const { return block_ + kLineWords; }
  u64* Rotated0(size_t b) { return rotated_.data() + 2 * b * stride(); }
  u64* Rotated1(size_t b) { return Rotated0(b) + stride(); }

  void ExpandWholeLimbs() {
    for (const auto& [giant, row] : c_.rows) {
      for (const auto& [baby, plain] : row) {
        if (!plain.in_coefficients()) continue;
        Buffer& words = whole_[&plain] = Buffer(n_);
        plain.ExpandBlock(c_.params, level_, limb_, 0, {words.data(), n_});
      }
    }
  }

  // One reader per baby; null for rotation 0. Blocks are read once, in their order.
  void OpenKeys() {
    const size_t limbs = c_.params.limbs(level_);
    size_t words = 0;
    for (const BabyStep& step : c_.babies) {
      std::optional<ckks::KeyLimbReader>& reader = readers_.emplace_back();
      if (step.key == nullptr) continue;
      const size_t limb = InQ() ? limb_ : c_.params.limbs(step.key->level) + (limb_ - limbs);
      reader.emplace(c_.params, *step.key, limb, c_.digits.digits.size());
      words = std::max(words, reader->ScratchWords(block_));
    }
    expanded_ = Buffer(words);
  }

  // Block of digit i of c1: its own limbs are c1's.
  const u64* Digit(size_t i) const {
    const size_t begin = c_.params.digit_begin(special_, static_cast<int>(i));
    const size_t end = c_.params.digit_end(level_, special_, static_cast<int>(i));
    if (limb_ >= begin && limb_ < end) return c_.x.parts[1].ptr(limb_);
    return c_.digits.digits[i].ptr(limb_ < begin ? limb_ : limb_ - (end - begin));
  }

  // P rotate(x, baby) over QP: sum_i digit_i key_i, and P c0 in the limbs of Q.
  void Rotate(size_t b, size_t begin) {
    const ring::Kernels& kernels = ring::ActiveKernels();
    const BabyStep& step = c_.babies[b];
    u64 *out0 = Rotated0(b), *out1 = Rotated1(b);
    if (step.key == nullptr) return Extend(begin, out0, out1);
    const size_t count = c_.digits.digits.size();
    std::array<const u64*, kMaxProducts> d, k0, k1;
    for (size_t i = 0; i < count; ++i) d[i] = Digit(i);
    readers_[b]->Next(block_, expanded_.data(), k0.data(), k1.data());
    const u32* permutation = step.permutation->data() + begin;
    kernels.inner_product2_permuted(out0, out1, d.data(), permutation, k0.data(), k1.data(), count,
                                    block_, Q());
    if (!InQ()) return;
    u64* c0 = scratch_.data();
    kernels.permute(c0, c_.x.parts[0].ptr(limb_), permutation, block_);
    kernels.mul_scalar_add(out0, c0, p_mod_q_, out0, block_, Q());
  }

  void Extend(size_t begin, u64* out0, u64* out1) const {
    if (!InQ()) {
      std::fill_n(out0, block_, u64{0});
      std::fill_n(out1, block_, u64{0});
      return;
    }
    const ring::Kernels& kernels = ring::ActiveKernels();
    kernels.mul_scalar(out0, c_.x.parts[0].ptr(limb_) + begin, p_mod_q_, block_, Q());
    kernels.mul_scalar(out1, c_.x.parts[1].ptr(limb_) + begin, p_mod_q_, block_, Q());
  }

  static int LogRepeat(const CompactPlaintext& plain) {
    return plain.repeats_in_vectors() ? plain.log_repeat() : 0;
  }

  // The block's words, where they repeat the distinct ones.
  const u64* Plain(const CompactPlaintext& plain, size_t begin, u64* words) const {
    if (LogRepeat(plain) > 0) return plain.Distinct(c_.params, limb_, begin);
    if (const auto whole = whole_.find(&plain); whole != whole_.end())
      return whole->second.data() + begin;
    plain.ExpandBlock(c_.params, level_, limb_, begin, {words, block_});
    return words;
  }

  // out = sum_b plain_b rotated_b, in groups that one kernel call takes.
  void SumRow(const PlaintextRow& row, size_t begin, u64* out0, u64* out1) {
    const ring::Kernels& kernels = ring::ActiveKernels();
    u64* partial = scratch_.data() + kMaxProducts * block_;
    size_t b = 0;
    for (auto entry = row.begin(); entry != row.end();) {
      const bool first = entry == row.begin();
      const int log_repeat = LogRepeat(entry->second);
      std::array<const u64*, kMaxProducts> plain, r0, r1;
      size_t count = 0;
      for (; count < kMaxProducts && entry != row.end() && LogRepeat(entry->second) == log_repeat;
           ++count, ++entry) {
        while (c_.babies[b].rotation != entry->first) ++b;  // both in increasing order
        plain[count] = Plain(entry->second, begin, scratch_.data() + count * block_);
        r0[count] = Rotated0(b);
        r1[count] = Rotated1(b);
      }
      u64 *to0 = first ? out0 : partial, *to1 = first ? out1 : partial + block_;
      if (log_repeat > 0)
        kernels.inner_product2_repeated(to0, to1, plain.data(), log_repeat, r0.data(), r1.data(),
                                        count, block_, Q());
      else
        kernels.inner_product2(to0, to1, plain.data(), r0.data(), r1.data(), count, block_, Q());
      if (first) continue;
      kernels.add(out0, out0, to0, block_, Q());
      kernels.add(out1, out1, to1, block_, Q());
    }
  }

  const Context& c_;
  size_t limb_;
  int level_, special_;
  size_t n_, block_;
  const ring::NttTables& table_;
  u64 p_mod_q_ = 1;
  Buffer rotated_;                                          // [baby][component][stride()]
  Buffer scratch_;                                          // plaintexts, then two partial sums
  Buffer expanded_;                                         // a block of a compact key
  std::deque<std::optional<ckks::KeyLimbReader>> readers_;  // by baby
  std::map<const CompactPlaintext*, Buffer> whole_;
};

}  // namespace

Result<std::map<int, ExtendedCiphertext>> MultiplyRows(const ckks::Evaluator& evaluator,
                                                       const ckks::Ciphertext& x,
                                                       const PlaintextRows& rows,
                                                       double plain_scale) {
  const ckks::Parameters& params = evaluator.params();
  PV_ASSIGN_OR_RETURN(const auto babies, FindBabies(evaluator, x.level, rows));
  ckks::HoistedDigits digits;
  if (std::any_of(babies.begin(), babies.end(), [](const BabyStep& b) { return b.key; })) {
    PV_ASSIGN_OR_RETURN(digits, evaluator.Decompose(x, x.level));
  }
  const size_t limbs = params.extended_limbs(x.level), n = params.n();
  std::map<int, ExtendedCiphertext> sums;
  for (const auto& [giant, row] : rows) {
    sums[giant] = {ring::RnsPoly(limbs, n), ring::RnsPoly(limbs, n), x.level,
                   x.scale * plain_scale};
  }
  const Context context{params, x, digits, rows, babies};
  ParallelFor(limbs, [&](size_t limb) { LimbWorker(context, limb).Run(sums); });
  return sums;
}

}  // namespace polyveil::circuits
