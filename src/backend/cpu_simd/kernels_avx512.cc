// Element-wise kernels in AVX-512 IFMA.
#include "backend/backends.h"
#include "backend/cpu_simd/avx512.h"
#include "backend/cpu_simd/ntt_avx512.h"

namespace polyveil::backend {
namespace avx512 {
namespace {

using ring::Modulus;
using ring::ShoupFactor;

void AddKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Vec modulus = Set(q.q);
  for (size_t j = 0; j < n; j += kLanes)
    Store(out + j, SubIfNotBelow(Add(Load(a + j), Load(b + j)), modulus));
}

void SubKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Vec modulus = Set(q.q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec d = Sub(Load(a + j), Load(b + j));
    Store(out + j, _mm512_min_epu64(d, Add(d, modulus)));
  }
}

void NegateKernel(u64* out, const u64* a, size_t n, const Modulus& q) {
  const Vec modulus = Set(q.q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec x = Load(a + j);
    Store(out + j, _mm512_maskz_sub_epi64(_mm512_test_epi64_mask(x, x), modulus, x));
  }
}

void MulKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Barrett barrett(q);
  for (size_t j = 0; j < n; j += kLanes) Store(out + j, barrett.Mul(Load(a + j), Load(b + j)));
}

void MulAddKernel(u64* out, const u64* a, const u64* b, const u64* c, size_t n, const Modulus& q) {
  const Barrett barrett(q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec product = barrett.Mul(Load(a + j), Load(b + j));
    Store(out + j, SubIfNotBelow(Add(product, Load(c + j)), barrett.c.q));
  }
}

void MulScalarKernel(u64* out, const u64* a, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const ShoupFactor factor = q.Shoup(s);
  const Vec w = Set(factor.value), quotient = Set(factor.quotient);
  for (size_t j = 0; j < n; j += kLanes) Store(out + j, MulShoup(Load(a + j), w, quotient, c));
}

void MulScalarAddKernel(u64* out, const u64* a, u64 s, const u64* addend, size_t n,
                        const Modulus& q) {
  const Constants c(q);
  const ShoupFactor factor = q.Shoup(s);
  const Vec w = Set(factor.value), quotient = Set(factor.quotient);
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec product = MulShoup(Load(a + j), w, quotient, c);
    Store(out + j, SubIfNotBelow(Add(product, Load(addend + j)), c.q));
  }
}

void SubMulScalarKernel(u64* out, const u64* a, const u64* b, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const ShoupFactor factor = q.Shoup(s);
  const Vec w = Set(factor.value), quotient = Set(factor.quotient);
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec difference = Sub(Add(Load(a + j), c.q), Load(b + j));
    Store(out + j, MulShoup(difference, w, quotient, c));
  }
}

void ReduceFromKernel(u64* out, const u64* a, size_t n, const Modulus& from, const Modulus& to,
                      bool centred) {
  const Constants c(to);
  const Vec inv52 = Set(to.inv52);
  const Vec half = centred ? Set(from.q / 2) : Set(~u64{0});
  const Vec correction = Set(to.Reduce(from.q));
  for (size_t j = 0; j < n; j += kLanes) {
    const Vec x = Load(a + j);
    const Vec r = Reduce52(x, inv52, c);
    const Vec d = _mm512_mask_sub_epi64(r, _mm512_cmpgt_epu64_mask(x, half), r, correction);
    Store(out + j, _mm512_min_epu64(d, Add(d, c.q)));
  }
}

// Vectors per step of the inner products: each of up to 128 streams is read a few cache lines at a
// time, and the accumulators fill half of the registers.
constexpr size_t kWide = 8;
constexpr size_t kNarrow = 4;
// Prefetching, in words. More streams than the hardware follows: into L2, which takes more misses
// at a time than L1 does (key products a third faster, measured). Past the end it asks for nothing.
constexpr size_t kAhead = 512;
constexpr size_t kPermutedAhead = 128;

void InnerProductKernel(u64* out, const u64* const* a, const u64* const* b, size_t count, size_t n,
                        const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += kWide * kLanes) {
    Vec low[kWide], high[kWide];
    for (size_t v = 0; v < kWide; ++v) low[v] = high[v] = Zero();
    for (size_t i = 0; i < count; ++i) {
      for (size_t v = 0; v < kWide; ++v) {
        const Vec x = Load(a[i] + j + v * kLanes), y = Load(b[i] + j + v * kLanes);
        low[v] = Low(low[v], x, y);
        high[v] = High(high[v], x, y);
      }
    }
    for (size_t v = 0; v < kWide; ++v) Store(out + j + v * kLanes, reducer.Reduce(high[v], low[v]));
  }
}

// Loads the block of eight that perm names, in its order: an automorphism maps aligned blocks to
// such.
PV_ALWAYS_INLINE Vec LoadPermuted(const u64* a, const u32* perm) {
  const Vec index =
      _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(perm)));
  return _mm512_permutexvar_epi64(index, Load(a + (perm[0] & ~u32{7})));
}

// Asks for the block that LoadPermuted will want kPermutedAhead words later: perm has n words.
PV_ALWAYS_INLINE void PrefetchPermuted(const u64* a, const u32* perm, size_t at, size_t n) {
  const size_t later = at + kPermutedAhead < n ? at + kPermutedAhead : at;
  _mm_prefetch(a + (perm[later] & ~u32{7}), _MM_HINT_T1);
}

template <bool kPermuted>
PV_ALWAYS_INLINE void InnerProduct2Any(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                       const u64* const* b0, const u64* const* b1, size_t count,
                                       size_t n, const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += kNarrow * kLanes) {
    Vec low0[kNarrow], high0[kNarrow], low1[kNarrow], high1[kNarrow];
    for (size_t v = 0; v < kNarrow; ++v) low0[v] = high0[v] = low1[v] = high1[v] = Zero();
    for (size_t i = 0; i < count; ++i) {
      for (size_t v = 0; v < kNarrow; ++v) {
        const size_t at = j + v * kLanes;
        const Vec x = kPermuted ? LoadPermuted(a[i], perm + at) : Load(a[i] + at);
        const Vec y0 = Load(b0[i] + at), y1 = Load(b1[i] + at);
        _mm_prefetch(b0[i] + at + kAhead, _MM_HINT_T1);
        _mm_prefetch(b1[i] + at + kAhead, _MM_HINT_T1);
        if (kPermuted) {
          PrefetchPermuted(a[i], perm, at, n);
        } else {
          _mm_prefetch(a[i] + at + kAhead, _MM_HINT_T1);
        }
        low0[v] = Low(low0[v], x, y0);
        high0[v] = High(high0[v], x, y0);
        low1[v] = Low(low1[v], x, y1);
        high1[v] = High(high1[v], x, y1);
      }
    }
    for (size_t v = 0; v < kNarrow; ++v) {
      Store(out0 + j + v * kLanes, reducer.Reduce(high0[v], low0[v]));
      Store(out1 + j + v * kLanes, reducer.Reduce(high1[v], low1[v]));
    }
  }
}

void InnerProduct2Kernel(u64* out0, u64* out1, const u64* const* a, const u64* const* b0,
                         const u64* const* b1, size_t count, size_t n, const Modulus& q) {
  InnerProduct2Any<false>(out0, out1, a, nullptr, b0, b1, count, n, q);
}

// kShared: one word for all vectors of a step.
template <bool kShared>
PV_ALWAYS_INLINE void InnerProduct2Words(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                                         const u64* const* b0, const u64* const* b1, size_t count,
                                         size_t n, const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += kNarrow * kLanes) {
    Vec low0[kNarrow], high0[kNarrow], low1[kNarrow], high1[kNarrow];
    for (size_t v = 0; v < kNarrow; ++v) low0[v] = high0[v] = low1[v] = high1[v] = Zero();
    for (size_t i = 0; i < count; ++i) {
      const Vec shared = Set(a[i][j >> log_repeat]);
      for (size_t v = 0; v < kNarrow; ++v) {
        const size_t at = j + v * kLanes;
        const Vec x = kShared ? shared : Set(a[i][at >> log_repeat]);
        const Vec y0 = Load(b0[i] + at), y1 = Load(b1[i] + at);
        low0[v] = Low(low0[v], x, y0);
        high0[v] = High(high0[v], x, y0);
        low1[v] = Low(low1[v], x, y1);
        high1[v] = High(high1[v], x, y1);
      }
    }
    for (size_t v = 0; v < kNarrow; ++v) {
      Store(out0 + j + v * kLanes, reducer.Reduce(high0[v], low0[v]));
      Store(out1 + j + v * kLanes, reducer.Reduce(high1[v], low1[v]));
    }
  }
}

void InnerProduct2RepeatedKernel(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  if ((size_t{1} << log_repeat) >= kNarrow * kLanes)
    InnerProduct2Words<true>(out0, out1, a, log_repeat, b0, b1, count, n, q);
  else
    InnerProduct2Words<false>(out0, out1, a, log_repeat, b0, b1, count, n, q);
}

void InnerProduct2PermutedKernel(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  InnerProduct2Any<true>(out0, out1, a, perm, b0, b1, count, n, q);
}

// Two output moduli at a time share the loads of x.
template <size_t kOutputs>
PV_ALWAYS_INLINE void InnerProductScalarAny(u64* const* out, const u64* const* x,
                                            const u64* factors, size_t count, size_t n,
                                            const Modulus* const* q) {
  const SumReducer first(*q[0]), second(*q[kOutputs - 1]);
  for (size_t j = 0; j < n; j += kNarrow * kLanes) {
    Vec low[kOutputs][kNarrow], high[kOutputs][kNarrow];
    for (size_t k = 0; k < kOutputs; ++k)
      for (size_t v = 0; v < kNarrow; ++v) low[k][v] = high[k][v] = Zero();
    for (size_t i = 0; i < count; ++i) {
      for (size_t v = 0; v < kNarrow; ++v) {
        const Vec y = Load(x[i] + j + v * kLanes);
        for (size_t k = 0; k < kOutputs; ++k) {
          const Vec factor = Set(factors[k * count + i]);
          low[k][v] = Low(low[k][v], y, factor);
          high[k][v] = High(high[k][v], y, factor);
        }
      }
    }
    for (size_t v = 0; v < kNarrow; ++v) {
      Store(out[0] + j + v * kLanes, first.Reduce(high[0][v], low[0][v]));
      if (kOutputs == 2) Store(out[1] + j + v * kLanes, second.Reduce(high[1][v], low[1][v]));
    }
  }
}

void InnerProductScalarKernel(u64* const* out, const u64* const* x, const u64* factors,
                              size_t out_count, size_t count, size_t n, const Modulus* const* q) {
  size_t k = 0;
  for (; k + 2 <= out_count; k += 2)
    InnerProductScalarAny<2>(out + k, x, factors + k * count, count, n, q + k);
  if (k < out_count) InnerProductScalarAny<1>(out + k, x, factors + k * count, count, n, q + k);
}

void ApproximateQuotientKernel(u64* u, const u64* const* x, const double* inverse, size_t count,
                               size_t n) {
  const __m512d half = _mm512_set1_pd(0.5);
  for (size_t j = 0; j < n; j += kNarrow * kLanes) {
    __m512d sum[kNarrow];
    for (size_t v = 0; v < kNarrow; ++v) sum[v] = _mm512_setzero_pd();
    for (size_t i = 0; i < count; ++i) {
      const __m512d factor = _mm512_set1_pd(inverse[i]);
      for (size_t v = 0; v < kNarrow; ++v) {
        const __m512d term = _mm512_cvtepu64_pd(Load(x[i] + j + v * kLanes));
        sum[v] = _mm512_add_pd(sum[v], _mm512_mul_pd(term, factor));
      }
    }
    for (size_t v = 0; v < kNarrow; ++v)
      Store(u + j + v * kLanes, _mm512_cvttpd_epu64(_mm512_add_pd(sum[v], half)));
  }
}

void PermuteKernel(u64* out, const u64* in, const u32* perm, size_t n) {
  for (size_t j = 0; j < n; j += kLanes) {
    PrefetchPermuted(in, perm, j, n);
    Store(out + j, LoadPermuted(in, perm + j));
  }
}

// x mod q of any 64-bit words: floor(x / 2^12) times 2^(bits+51) / q is at most 2 below the
// quotient.
size_t ReduceUniformKernel(u64* out, const u64* in, size_t n, const Modulus& q) {
  const Constants c(q);
  const Vec factor = Set(q.barrett), limit = Set(q.UniformLimit());
  const __m128i shift = _mm_cvtsi32_si128(q.bits - 13);
  size_t accepted = 0;
  for (size_t j = 0; j < n; j += kLanes) {
    const __mmask8 here =
        n - j < kLanes ? static_cast<__mmask8>((1u << (n - j)) - 1) : __mmask8{255};
    const Vec x = _mm512_maskz_loadu_epi64(here, in + j);
    const __mmask8 valid = _mm512_mask_cmplt_epu64_mask(here, x, limit);
    const Vec estimate = _mm512_srl_epi64(High(Zero(), _mm512_srli_epi64(x, 12), factor), shift);
    Vec r = And(Low(And(x, c.mask), estimate, c.neg_q), c.mask);
    r = SubIfNotBelow(SubIfNotBelow(r, c.q), c.q);
    if (valid == 255) {
      _mm512_storeu_si512(out + accepted, r);
      accepted += kLanes;
      continue;
    }
    const auto count = static_cast<unsigned>(__builtin_popcount(valid));
    _mm512_mask_storeu_epi64(out + accepted, static_cast<__mmask8>((1u << count) - 1),
                             _mm512_maskz_compress_epi64(valid, r));
    accepted += count;
  }
  return accepted;
}

}  // namespace
}  // namespace avx512

const ring::Kernels& Avx512Kernels() {
  using namespace avx512;
  static constexpr ring::Kernels kKernels{
      .name = "avx512ifma",
      .forward_ntt = ForwardNtt,
      .inverse_ntt = InverseNtt,
      .add = AddKernel,
      .sub = SubKernel,
      .negate = NegateKernel,
      .mul = MulKernel,
      .mul_add = MulAddKernel,
      .mul_scalar = MulScalarKernel,
      .mul_scalar_add = MulScalarAddKernel,
      .sub_mul_scalar = SubMulScalarKernel,
      .reduce_from = ReduceFromKernel,
      .inner_product = InnerProductKernel,
      .inner_product2 = InnerProduct2Kernel,
      .inner_product2_repeated = InnerProduct2RepeatedKernel,
      .inner_product2_permuted = InnerProduct2PermutedKernel,
      .inner_product_scalar = InnerProductScalarKernel,
      .approximate_quotient = ApproximateQuotientKernel,
      .permute = PermuteKernel,
      .reduce_uniform = ReduceUniformKernel,
  };
  return kKernels;
}

}  // namespace polyveil::backend
