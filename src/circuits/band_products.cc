#include "circuits/band_products.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/thread_pool.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;

// Two products of 12 terms of so many words are a fifth of a 1 MiB L2.
constexpr size_t kBandWords = 1024;

Status CheckTerms(std::span<const Ciphertext* const> a, std::span<const Ciphertext* const> b) {
  for (const auto& operands : {a, b})
    for (const Ciphertext* const each : operands)
      if (each->degree() != 1 || each->level != a[0]->level ||
          !ckks::SameScale(each->scale, operands[0]->scale))
        return MakeError(
            ErrorCode::kMismatch,
            "band: a term of degree {} at level {}, scale {:.10g}, beside one at level "
            "{}, scale {:.10g}",
            each->degree(), each->level, each->scale, a[0]->level, operands[0]->scale);
  return {};
}

// Works on one limb.
class LimbSums {
 public:
  LimbSums(const ckks::Parameters& params, size_t limb, int level,
           std::span<const CompactPlaintext> plain)
      : params_(params),
        limb_(limb),
        level_(level),
        plain_(plain),
        q_(params.q(static_cast<int>(limb))),
        n_(params.n()),
        block_(std::min(n_, kBandWords)),
        products_(2 * plain.size() * block_),
        words_(block_),
        whole_(plain.size()) {
    for (size_t i = 0; i < plain.size(); ++i) {
      if (!plain[i].in_coefficients()) continue;
      whole_[i] = Buffer(n_);
      plain[i].ExpandBlock(params, level, limb, 0, {whole_[i].data(), n_});
    }
  }

  void Run(std::span<const Ciphertext* const> a, std::span<const Ciphertext* const> b,
           Ciphertext& sum) {
    const ring::Kernels& kernels = ring::ActiveKernels();
    const size_t terms = a.size();
    std::vector<const u64*> left(2 * terms), right(2 * terms);
    for (size_t begin = 0; begin < n_; begin += block_) {
      // (a0 b0, a0 b1 + a1 b0, a1 b1): the first parts' products, then the second ones'.
      for (size_t i = 0; i < terms; ++i) {
        Multiply(*a[i], i, begin);
        left[i] = Product(0, i);
        left[terms + i] = Product(1, i);
        right[i] = b[i]->parts[1].ptr(limb_) + begin;
        right[terms + i] = b[i]->parts[0].ptr(limb_) + begin;
      }
      const auto to = [&](size_t part) { return sum.parts[part].ptr(limb_) + begin; };
      kernels.inner_product(to(1), left.data(), right.data(), 2 * terms, block_, q_);
      kernels.inner_product(to(0), left.data(), right.data() + terms, terms, block_, q_);
      kernels.inner_product(to(2), left.data() + terms, right.data(), terms, block_, q_);
    }
  }

 private:
  u64* Product(size_t part, size_t i) {
    return products_.data() + (part * plain_.size() + i) * block_;
  }

  void Multiply(const Ciphertext& a, size_t i, size_t begin) {
    const ring::Kernels& kernels = ring::ActiveKernels();
    const CompactPlaintext& plain = plain_[i];
    const u64 *a0 = a.parts[0].ptr(limb_) + begin, *a1 = a.parts[1].ptr(limb_) + begin;
    if (plain.repeats_in_vectors()) {
      const u64* const distinct = plain.Distinct(params_, limb_, begin);
      return kernels.inner_product2_repeated(Product(0, i), Product(1, i), &distinct,
                                             plain.log_repeat(), &a0, &a1, 1, block_, q_);
    }
    const u64* words = words_.data();
    if (plain.in_coefficients())
      words = whole_[i].data() + begin;
    else
      plain.ExpandBlock(params_, level_, limb_, begin, {words_.data(), block_});
    kernels.mul(Product(0, i), words, a0, block_, q_);
    kernels.mul(Product(1, i), words, a1, block_, q_);
  }

  const ckks::Parameters& params_;
  const size_t limb_;
  const int level_;
  std::span<const CompactPlaintext> plain_;
  const ring::Modulus& q_;
  const size_t n_, block_;
  Buffer products_, words_;
  std::vector<Buffer> whole_;
};

}  // namespace

Result<Ciphertext> MultiplyBand(const ckks::Evaluator& evaluator,
                                std::span<const Ciphertext* const> a,
                                std::span<const CompactPlaintext> plain, double plain_scale,
                                std::span<const Ciphertext* const> b) {
  PV_CHECK(!a.empty() && a.size() == plain.size() && a.size() == b.size() &&
               2 * a.size() <= ring::kMaxProducts,
           "{} and {} ciphertexts, {} plaintexts", a.size(), b.size(), plain.size());
  PV_RETURN_IF_ERROR(CheckTerms(a, b));
  const ckks::Parameters& params = evaluator.params();
  const size_t limbs = params.limbs(a[0]->level);
  Ciphertext sum;
  sum.level = a[0]->level;
  sum.scale = plain_scale * a[0]->scale * b[0]->scale;
  for (int part = 0; part < 3; ++part) sum.parts.emplace_back(limbs, params.n());
  ParallelFor(limbs, [&](size_t limb) { LimbSums(params, limb, sum.level, plain).Run(a, b, sum); });
  return sum;
}

}  // namespace polyveil::circuits
