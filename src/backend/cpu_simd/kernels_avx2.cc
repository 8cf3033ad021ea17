// Element-wise kernels in AVX2 + FMA.
#include "backend/backends.h"
#include "backend/cpu_simd/avx2.h"
#include "backend/cpu_simd/ntt_avx2.h"

namespace polyveil::backend {
namespace avx2 {
namespace {

using ring::Modulus;

// Words below 2^63: signed comparison is unsigned.
PV_ALWAYS_INLINE Words AddIfNegativeWords(Words x, Words m) {
  return _mm256_add_epi64(x, _mm256_and_si256(_mm256_cmpgt_epi64(_mm256_setzero_si256(), x), m));
}

void AddKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Words modulus = SetWords(q.q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Words sum = _mm256_add_epi64(LoadWords(a + j), LoadWords(b + j));
    StoreWords(out + j, AddIfNegativeWords(_mm256_sub_epi64(sum, modulus), modulus));
  }
}

void SubKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Words modulus = SetWords(q.q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Words difference = _mm256_sub_epi64(LoadWords(a + j), LoadWords(b + j));
    StoreWords(out + j, AddIfNegativeWords(difference, modulus));
  }
}

void NegateKernel(u64* out, const u64* a, size_t n, const Modulus& q) {
  const Words modulus = SetWords(q.q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Words negative = _mm256_sub_epi64(_mm256_setzero_si256(), LoadWords(a + j));
    StoreWords(out + j, AddIfNegativeWords(negative, modulus));
  }
}

void MulKernel(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  const Constants c(q);
  for (size_t j = 0; j < n; j += kLanes)
    Store(out + j, AddIfNegative(MulSigned(Load(a + j), Load(b + j), c), c.q));
}

void MulAddKernel(u64* out, const u64* a, const u64* b, const u64* addend, size_t n,
                  const Modulus& q) {
  const Constants c(q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Real product = MulSigned(Load(a + j), Load(b + j), c);
    Store(out + j, Normalise(_mm256_add_pd(product, Load(addend + j)), c));
  }
}

void MulScalarKernel(u64* out, const u64* a, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const Factor factor = MakeFactor(q.Shoup(s));
  for (size_t j = 0; j < n; j += kLanes)
    Store(out + j, Normalise(MulLazy(Load(a + j), factor, c), c));
}

void MulScalarAddKernel(u64* out, const u64* a, u64 s, const u64* addend, size_t n,
                        const Modulus& q) {
  const Constants c(q);
  const Factor factor = MakeFactor(q.Shoup(s));
  for (size_t j = 0; j < n; j += kLanes) {
    const Real product = Normalise(MulLazy(Load(a + j), factor, c), c);
    Store(out + j, Normalise(_mm256_add_pd(product, Load(addend + j)), c));
  }
}

void SubMulScalarKernel(u64* out, const u64* a, const u64* b, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const Factor factor = MakeFactor(q.Shoup(s));
  for (size_t j = 0; j < n; j += kLanes) {
    const Real difference = _mm256_sub_pd(Load(a + j), Load(b + j));
    Store(out + j, Normalise(MulLazy(difference, factor, c), c));
  }
}

void ReduceFromKernel(u64* out, const u64* a, size_t n, const Modulus& from, const Modulus& to,
                      bool centred) {
  const Constants c(to);
  const Real half = Set(static_cast<double>(from.q / 2));
  const Real correction = Set(centred ? static_cast<double>(from.q) : 0.0);
  for (size_t j = 0; j < n; j += kLanes) {
    const Real x = Load(a + j);
    const Real high = _mm256_and_pd(_mm256_cmp_pd(x, half, _CMP_GT_OQ), correction);
    Store(out + j, Normalise(ReduceCentred(_mm256_sub_pd(x, high), c), c));
  }
}

// Sums of products in 26-bit halves: up to 64 terms of words below 2^52 fit 64 bits in each column.
struct Sum {
  Words column0 = _mm256_setzero_si256();
  Words column1 = _mm256_setzero_si256();
  Words column2 = _mm256_setzero_si256();

  PV_ALWAYS_INLINE void Add(Words a, Words b) {
    // vpmuludq reads the low 32 bits: the low halves must be masked, the high ones are below 2^26.
    const Words mask = SetWords((u64{1} << 26) - 1);
    const Words a0 = _mm256_and_si256(a, mask), a1 = _mm256_srli_epi64(a, 26);
    const Words b0 = _mm256_and_si256(b, mask), b1 = _mm256_srli_epi64(b, 26);
    column0 = _mm256_add_epi64(column0, _mm256_mul_epu32(a0, b0));
    column1 = _mm256_add_epi64(
        column1, _mm256_add_epi64(_mm256_mul_epu32(a0, b1), _mm256_mul_epu32(a1, b0)));
    column2 = _mm256_add_epi64(column2, _mm256_mul_epu32(a1, b1));
  }
};

struct SumReducer {
  Constants c;
  Factor pow55, eight;

  PV_ALWAYS_INLINE explicit SumReducer(const Modulus& q)
      : c(q), pow55(MakeFactor(q.pow55)), eight(MakeFactor(q.Shoup(8))) {}

  PV_ALWAYS_INLINE Words Reduce(const Sum& s) const {
    const Words mask = SetWords((u64{1} << 26) - 1);
    const Words mid = _mm256_add_epi64(s.column1, _mm256_srli_epi64(s.column0, 26));
    const Words high = _mm256_add_epi64(s.column2, _mm256_srli_epi64(mid, 26));
    const Words low = _mm256_or_si256(_mm256_slli_epi64(_mm256_and_si256(mid, mask), 26),
                                      _mm256_and_si256(s.column0, mask));
    // high * 2^52 + low = top * 2^55 + middle * 8 + bottom
    const Words seven = SetWords(7);
    const Words top = _mm256_srli_epi64(high, 3);
    const Words middle = _mm256_or_si256(_mm256_slli_epi64(_mm256_and_si256(high, seven), 49),
                                         _mm256_srli_epi64(low, 3));
    const Real bottom = ToReal(_mm256_and_si256(low, seven));
    // Magnitudes: below 5/4 q (top < 2^51), 7/4 q and 7.
    const Real sum =
        _mm256_add_pd(MulLazy(ToReal(top), pow55, c), MulLazy(ToReal(middle), eight, c));
    return ToWords(Normalise(ReduceCentred(_mm256_add_pd(sum, bottom), c), c));
  }
};

void InnerProductKernel(u64* out, const u64* const* a, const u64* const* b, size_t count, size_t n,
                        const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += 2 * kLanes) {
    Sum first, second;
    for (size_t i = 0; i < count; ++i) {
      first.Add(LoadWords(a[i] + j), LoadWords(b[i] + j));
      second.Add(LoadWords(a[i] + j + kLanes), LoadWords(b[i] + j + kLanes));
    }
    StoreWords(out + j, reducer.Reduce(first));
    StoreWords(out + j + kLanes, reducer.Reduce(second));
  }
}

PV_ALWAYS_INLINE Words LoadPermuted(const u64* a, const u32* perm) {
  const __m128i index = _mm_loadu_si128(reinterpret_cast<const __m128i*>(perm));
  return _mm256_i32gather_epi64(reinterpret_cast<const long long*>(a), index, 8);
}

template <bool kPermuted>
PV_ALWAYS_INLINE void InnerProduct2Any(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                       const u64* const* b0, const u64* const* b1, size_t count,
                                       size_t n, const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += kLanes) {
    Sum first, second;
    for (size_t i = 0; i < count; ++i) {
      const Words x = kPermuted ? LoadPermuted(a[i], perm + j) : LoadWords(a[i] + j);
      first.Add(x, LoadWords(b0[i] + j));
      second.Add(x, LoadWords(b1[i] + j));
    }
    StoreWords(out0 + j, reducer.Reduce(first));
    StoreWords(out1 + j, reducer.Reduce(second));
  }
}

void InnerProduct2Kernel(u64* out0, u64* out1, const u64* const* a, const u64* const* b0,
                         const u64* const* b1, size_t count, size_t n, const Modulus& q) {
  InnerProduct2Any<false>(out0, out1, a, nullptr, b0, b1, count, n, q);
}

void InnerProduct2RepeatedKernel(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  const SumReducer reducer(q);
  for (size_t j = 0; j < n; j += kLanes) {
    Sum first, second;
    for (size_t i = 0; i < count; ++i) {
      const Words x = SetWords(a[i][j >> log_repeat]);
      first.Add(x, LoadWords(b0[i] + j));
      second.Add(x, LoadWords(b1[i] + j));
    }
    StoreWords(out0 + j, reducer.Reduce(first));
    StoreWords(out1 + j, reducer.Reduce(second));
  }
}

void InnerProduct2PermutedKernel(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  InnerProduct2Any<true>(out0, out1, a, perm, b0, b1, count, n, q);
}

void InnerProductScalarKernel(u64* const* out, const u64* const* x, const u64* factors,
                              size_t out_count, size_t count, size_t n, const Modulus* const* q) {
  for (size_t k = 0; k < out_count; ++k) {
    const SumReducer reducer(*q[k]);
    const u64* row = factors + k * count;
    for (size_t j = 0; j < n; j += 2 * kLanes) {
      Sum first, second;
      for (size_t i = 0; i < count; ++i) {
        const Words factor = SetWords(row[i]);
        first.Add(LoadWords(x[i] + j), factor);
        second.Add(LoadWords(x[i] + j + kLanes), factor);
      }
      StoreWords(out[k] + j, reducer.Reduce(first));
      StoreWords(out[k] + j + kLanes, reducer.Reduce(second));
    }
  }
}

void ApproximateQuotientKernel(u64* u, const u64* const* x, const double* inverse, size_t count,
                               size_t n) {
  for (size_t j = 0; j < n; j += kLanes) {
    Real sum = _mm256_setzero_pd();
    for (size_t i = 0; i < count; ++i)
      sum = _mm256_add_pd(sum, _mm256_mul_pd(Load(x[i] + j), Set(inverse[i])));
    const Real rounded = _mm256_add_pd(sum, Set(0.5));
    Store(u + j, _mm256_round_pd(rounded, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
  }
}

void PermuteKernel(u64* out, const u64* in, const u32* perm, size_t n) {
  for (size_t j = 0; j < n; j += kLanes) StoreWords(out + j, LoadPermuted(in, perm + j));
}

size_t ReduceAccepted(u64* out, const u64* in, size_t n, const Modulus& q, u64 limit) {
  size_t accepted = 0;
  for (size_t j = 0; j < n; ++j)
    if (in[j] < limit) out[accepted++] = q.Reduce(in[j]);
  return accepted;
}

// x mod q as (high 2^32 mod q) + low.
size_t ReduceUniformKernel(u64* out, const u64* in, size_t n, const Modulus& q) {
  const Constants c(q);
  const Factor pow32 = MakeFactor(q.Shoup(q.Reduce(u64{1} << 32)));
  const u64 limit = q.UniformLimit();
  const Words sign = SetWords(u64{1} << 63), largest = SetWords((limit - 1) ^ (u64{1} << 63));
  const Words low_half = SetWords(0xffffffff);
  size_t accepted = 0, j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const Words x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + j));
    const Words above = _mm256_cmpgt_epi64(_mm256_xor_si256(x, sign), largest);
    if (!_mm256_testz_si256(above, above)) {
      accepted += ReduceAccepted(out + accepted, in + j, kLanes, q, limit);
      continue;
    }
    const Real high = MulLazy(ToReal(_mm256_srli_epi64(x, 32)), pow32, c);
    const Real sum = _mm256_add_pd(high, ToReal(_mm256_and_si256(x, low_half)));  // below 2^52
    const Words r = ToWords(Normalise(ReduceCentred(sum, c), c));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + accepted), r);
    accepted += kLanes;
  }
  return accepted + ReduceAccepted(out + accepted, in + j, n - j, q, limit);
}

}  // namespace
}  // namespace avx2

const ring::Kernels& Avx2Kernels() {
  using namespace avx2;
  static constexpr ring::Kernels kKernels{
      .name = "avx2",
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
