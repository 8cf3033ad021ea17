#include "ring/base_convert.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/check.h"
#include "base/thread_pool.h"

namespace polyveil::ring {
namespace {

constexpr size_t kBlockWords = 512;   // 4 KB per source limb: a digit of nine stays in L1
constexpr size_t kChunkWords = 8192;  // one task of the pool

u64 ProductWithout(std::span<const Modulus> moduli, size_t skipped, const Modulus& q) {
  u64 product = 1;
  for (size_t i = 0; i < moduli.size(); ++i)
    if (i != skipped) product = q.Mul(product, q.Reduce(moduli[i].q));
  return product;
}

}  // namespace

BaseConverter::BaseConverter(std::span<const Modulus> from, std::span<const Modulus> to,
                             Conversion conversion)
    : from_(from.begin(), from.end()), to_(to.begin(), to.end()), conversion_(conversion) {
  PV_CHECK(!from.empty() && from.size() < kMaxProducts, "conversion from {} moduli", from.size());
  const size_t none = from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    premultipliers_.push_back(from[i].Inverse(ProductWithout(from, i, from[i])));
    inverses_.push_back(from[i].inverse);
  }
  for (const Modulus& q : to) {
    for (size_t i = 0; i < from.size(); ++i) factors_.push_back(ProductWithout(from, i, q));
    product_mod_.push_back(ProductWithout(from, none, q));
    if (conversion == Conversion::kExact) factors_.push_back(q.Negate(product_mod_.back()));
  }
}

void BaseConverter::Convert(u64* const* out, const u64* const* in, size_t n) const {
  const size_t chunks = (n + kChunkWords - 1) / kChunkWords;
  ParallelFor(chunks, [&](size_t c) {
    ConvertBlock(out, in, c * kChunkWords, std::min(kChunkWords, n - c * kChunkWords), false);
  });
}

void BaseConverter::ConvertPremultiplied(u64* const* out, const u64* const* in, size_t n) const {
  const size_t chunks = (n + kChunkWords - 1) / kChunkWords;
  ParallelFor(chunks, [&](size_t c) {
    ConvertBlock(out, in, c * kChunkWords, std::min(kChunkWords, n - c * kChunkWords), true);
  });
}

void BaseConverter::ConvertBlock(u64* const* out, const u64* const* in, size_t begin, size_t words,
                                 bool premultiplied) const {
  const Kernels& kernels = ActiveKernels();
  const size_t sources = from_.size();
  const bool exact = conversion_ == Conversion::kExact;
  const size_t terms = sources + (exact ? 1 : 0);
  Buffer scratch((premultiplied ? 1 : terms) * kBlockWords);
  u64* const quotient = scratch.data() + (premultiplied ? 0 : sources * kBlockWords);
  const u64* x[kMaxProducts];
  std::vector<u64*> targets(to_.size());
  std::vector<const Modulus*> moduli(to_.size());
  for (size_t k = 0; k < to_.size(); ++k) moduli[k] = &to_[k];
  for (size_t at = begin; at < begin + words; at += kBlockWords) {
    const size_t block = std::min(kBlockWords, begin + words - at);
    for (size_t i = 0; i < sources; ++i) {
      x[i] = in[i] + at;
      if (premultiplied) continue;
      u64* scaled = scratch.data() + i * kBlockWords;
      kernels.mul_scalar(scaled, x[i], premultipliers_[i], block, from_[i]);
      x[i] = scaled;
    }
    if (exact) {
      kernels.approximate_quotient(quotient, x, inverses_.data(), sources, block);
      x[sources] = quotient;
    }
    for (size_t k = 0; k < to_.size(); ++k) targets[k] = out[k] + at;
    kernels.inner_product_scalar(targets.data(), x, factors_.data(), to_.size(), terms, block,
                                 moduli.data());
  }
}

}  // namespace polyveil::ring
