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
    Store(out + j, AddIfNegative(MulLazy(Load(a + j), Load(b + j), c), c));
}

void MulAddKernel(u64* out, const u64* a, const u64* b, const u64* addend, size_t n,
                  const Modulus& q) {
  const Constants c(q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Real product = MulLazy(Load(a + j), Load(b + j), c);
    Store(out + j, Normalise(_mm256_add_pd(product, Load(addend + j)), c));
  }
}

void MulScalarKernel(u64* out, const u64* a, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const Real factor = Factor(s, q);
  for (size_t j = 0; j < n; j += kLanes)
    Store(out + j, AddIfNegative(MulLazy(Load(a + j), factor, c), c));
}

void MulScalarAddKernel(u64* out, const u64* a, u64 s, const u64* addend, size_t n,
                        const Modulus& q) {
  const Constants c(q);
  const Real factor = Factor(s, q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Real product = MulLazy(Load(a + j), factor, c);
    Store(out + j, Normalise(_mm256_add_pd(product, Load(addend + j)), c));
  }
}

void SubMulScalarKernel(u64* out, const u64* a, const u64* b, u64 s, size_t n, const Modulus& q) {
  const Constants c(q);
  const Real factor = Factor(s, q);
  for (size_t j = 0; j < n; j += kLanes) {
    const Real difference = _mm256_sub_pd(Load(a + j), Load(b + j));
    Store(out + j, AddIfNegative(MulLazy(difference, factor, c), c));
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
    Store(out + j, Normalise(_mm256_sub_pd(x, high), c));
  }
}

// Sums of products of doubles, exact: `high` lies above 2^(kUnit + 52), where doubles are multiples
// of a unit 2^kUnit, and takes each product rounded; `low` takes what the rounding left, at most
// half a unit. kTerms products of words below 2^50 and 2^kBits leave `high` below 2^(kUnit + 53)
// and `low` at 2^53 or less.
template <int kBits>
struct Sum {
  static_assert(kBits == 50 || kBits == 48 || kBits == 44);
  static constexpr int kLogTerms = (56 - kBits) / 2, kUnit = 54 - kLogTerms;
  static constexpr size_t kTerms = size_t{1} << kLogTerms;
  static constexpr double kPerUnit = 1.0 / static_cast<double>(u64{1} << kUnit);
  static constexpr double kBase = 0x1p52 / kPerUnit;
  Real high = Set(kBase);
  Real low = _mm256_setzero_pd();

  PV_ALWAYS_INLINE void Add(Real a, Real b) {
    const Real next = _mm256_fmadd_pd(a, b, high);
    low = _mm256_add_pd(low, _mm256_fmsub_pd(a, b, _mm256_sub_pd(next, high)));
    high = next;
  }
};

template <int kBits>
struct SumReducer {
  Constants c;
  Real unit;  // 2^kUnit mod q

  PV_ALWAYS_INLINE explicit SumReducer(const Modulus& q)
      : c(q), unit(Factor(q.Reduce(u64{1} << Sum<kBits>::kUnit), q)) {}

  // total + the sum, in [-q/2, q/2], where total is.
  PV_ALWAYS_INLINE Real Reduce(Real total, const Sum<kBits>& s) const {
    const Real base = Set(Sum<kBits>::kBase), per_unit = Set(Sum<kBits>::kPerUnit);
    const Real units = _mm256_mul_pd(_mm256_sub_pd(s.high, base), per_unit);  // at most 2^52
    const Real high = MulLazy(units, unit, c);
    return ReduceCentred(_mm256_add_pd(_mm256_add_pd(high, total), ReduceCentred(s.low, c)), c);
  }
  PV_ALWAYS_INLINE void Store(u64* out, Real total) const {
    avx2::Store(out, AddIfNegative(total, c));
  }
};

// sum over i < count of the products that add(sums, i) adds, for kOutputs sums at once.
template <int kBits, size_t kOutputs, typename AddTerm>
PV_ALWAYS_INLINE void SumProducts(Real (&total)[kOutputs], const SumReducer<kBits>& reducer,
                                  size_t count, const AddTerm& add) {
  for (size_t k = 0; k < kOutputs; ++k) total[k] = _mm256_setzero_pd();
  for (size_t first = 0; first < count; first += Sum<kBits>::kTerms) {
    const size_t last = first + Sum<kBits>::kTerms < count ? first + Sum<kBits>::kTerms : count;
    Sum<kBits> sums[kOutputs];
    for (size_t i = first; i < last; ++i) add(sums, i);
    for (size_t k = 0; k < kOutputs; ++k) total[k] = reducer.Reduce(total[k], sums[k]);
  }
}

// f(Sum): of the fewest reductions for words below q.
template <typename Function>
PV_ALWAYS_INLINE void ForModulus(const Modulus& q, const Function& f) {
  if (q.bits <= 44) return f(Sum<44>());
  if (q.bits <= 48) return f(Sum<48>());
  f(Sum<50>());
}

template <int kBits>
void InnerProduct(Sum<kBits>, u64* out, const u64* const* a, const u64* const* b, size_t count,
                  size_t n, const Modulus& q) {
  const SumReducer<kBits> reducer(q);
  for (size_t j = 0; j < n; j += 2 * kLanes) {
    Real total[2];
    SumProducts(total, reducer, count, [&](Sum<kBits>* sums, size_t i) {
      sums[0].Add(Load(a[i] + j), Load(b[i] + j));
      sums[1].Add(Load(a[i] + j + kLanes), Load(b[i] + j + kLanes));
    });
    reducer.Store(out + j, total[0]);
    reducer.Store(out + j + kLanes, total[1]);
  }
}

void InnerProductKernel(u64* out, const u64* const* a, const u64* const* b, size_t count, size_t n,
                        const Modulus& q) {
  ForModulus(q, [&](auto sum) { InnerProduct(sum, out, a, b, count, n, q); });
}

// By single loads: a gather takes several times as long on some processors, on none much less.
PV_ALWAYS_INLINE Words LoadPermuted(const u64* a, const u32* perm) {
  const auto word = [&](size_t k) { return reinterpret_cast<const double*>(a + perm[k]); };
  const __m128d low = _mm_loadh_pd(_mm_load_sd(word(0)), word(1));
  const __m128d high = _mm_loadh_pd(_mm_load_sd(word(2)), word(3));
  return _mm256_castpd_si256(_mm256_set_m128d(high, low));
}

// sums: words j .. j + 3 of both outputs, then j + 4 .. j + 7.
// load(i, j, x): the same words of the operand that both outputs share.
template <int kBits, typename LoadShared>
PV_ALWAYS_INLINE void AddPairs(Sum<kBits> (&sums)[4], const LoadShared& load, const u64* const* b0,
                               const u64* const* b1, size_t first, size_t last, size_t j) {
  for (size_t i = first; i < last; ++i) {
    Real x[2];
    load(i, j, x);
    sums[0].Add(x[0], Load(b0[i] + j));
    sums[1].Add(x[0], Load(b1[i] + j));
    sums[2].Add(x[1], Load(b0[i] + j + kLanes));
    sums[3].Add(x[1], Load(b1[i] + j + kLanes));
  }
}

// A whole line of every operand at a time: polynomials lie at multiples of a power of two, so that
// the lines which a sum reads together have one place in a cache. Terms that take a reduction
// between them follow one another over a tile: no processor foresees as many streams as there are.
template <int kBits, typename LoadShared>
PV_ALWAYS_INLINE void InnerProduct2Any(Sum<kBits>, u64* const (&out)[2], const LoadShared& load,
                                       const u64* const* b0, const u64* const* b1, size_t count,
                                       size_t n, const Modulus& q) {
  constexpr size_t kTile = 512, kGroup = Sum<kBits>::kTerms;
  const SumReducer<kBits> reducer(q);
  alignas(64) double totals[2 * kTile];
  for (size_t tile = 0; tile < n; tile += kTile) {
    const size_t end = tile + kTile < n ? tile + kTile : n;
    for (size_t first = 0; first < count; first += kGroup) {
      const size_t last = first + kGroup < count ? first + kGroup : count;
      for (size_t j = tile; j < end; j += 2 * kLanes) {
        Sum<kBits> sums[4];
        AddPairs(sums, load, b0, b1, first, last, j);
        double* const before = totals + 2 * (j - tile);
        for (size_t s = 0; s < 4; ++s) {
          const Real none = _mm256_setzero_pd();
          const Real total =
              reducer.Reduce(first == 0 ? none : _mm256_load_pd(before + s * kLanes), sums[s]);
          if (last < count)
            _mm256_store_pd(before + s * kLanes, total);
          else
            reducer.Store(out[s % 2] + j + s / 2 * kLanes, total);
        }
      }
    }
  }
}

void InnerProduct2Kernel(u64* out0, u64* out1, const u64* const* a, const u64* const* b0,
                         const u64* const* b1, size_t count, size_t n, const Modulus& q) {
  const auto load = [&](size_t i, size_t j, Real* x) {
    x[0] = Load(a[i] + j);
    x[1] = Load(a[i] + j + kLanes);
  };
  ForModulus(q, [&](auto sum) { InnerProduct2Any(sum, {out0, out1}, load, b0, b1, count, n, q); });
}

void InnerProduct2RepeatedKernel(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  const auto load = [&](size_t i, size_t j, Real* x) {
    x[0] = x[1] = ToReal(SetWords(a[i][j >> log_repeat]));
  };
  ForModulus(q, [&](auto sum) { InnerProduct2Any(sum, {out0, out1}, load, b0, b1, count, n, q); });
}

void InnerProduct2PermutedKernel(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                 const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                                 const Modulus& q) {
  const auto load = [&](size_t i, size_t j, Real* x) {
    x[0] = ToReal(LoadPermuted(a[i], perm + j));
    x[1] = ToReal(LoadPermuted(a[i], perm + j + kLanes));
  };
  ForModulus(q, [&](auto sum) { InnerProduct2Any(sum, {out0, out1}, load, b0, b1, count, n, q); });
}

// One output of a block of the base conversion; x: `words` doubles of each input in turn.
template <int kBits>
void ScalarRow(Sum<kBits>, u64* out, const double* x, const u64* factors, size_t count,
               size_t words, const Modulus& q) {
  constexpr size_t kVectors = 4;
  const SumReducer<kBits> reducer(q);
  double row[ring::kMaxProducts];
  for (size_t i = 0; i < count; ++i) row[i] = static_cast<double>(factors[i]);
  for (size_t j = 0; j < words; j += kVectors * kLanes) {
    Real total[kVectors];
    SumProducts(total, reducer, count, [&](Sum<kBits>* sums, size_t i) {
      const Real factor = Set(row[i]);
      for (size_t k = 0; k < kVectors; ++k)
        sums[k].Add(_mm256_load_pd(x + i * words + j + k * kLanes), factor);
    });
    for (size_t k = 0; k < kVectors; ++k) reducer.Store(out + j + k * kLanes, total[k]);
  }
}

// Words are made doubles once for all outputs, in blocks that stay in the first cache.
void InnerProductScalarKernel(u64* const* out, const u64* const* x, const u64* factors,
                              size_t out_count, size_t count, size_t n, const Modulus* const* q) {
  constexpr size_t kBlock = 64, kLargeBlock = 256, kFewTerms = 16;
  alignas(64) double block[ring::kMaxProducts * kBlock];
  static_assert(kFewTerms * kLargeBlock <= ring::kMaxProducts * kBlock);
  const size_t most = count <= kFewTerms ? kLargeBlock : kBlock;
  for (size_t first = 0; first < n; first += most) {
    const size_t words = first + most < n ? most : n - first;
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < words; j += kLanes)
        _mm256_store_pd(block + i * words + j, Load(x[i] + first + j));
    for (size_t k = 0; k < out_count; ++k) {
      ForModulus(*q[k], [&](auto sum) {
        ScalarRow(sum, out[k] + first, block, factors + k * count, count, words, *q[k]);
      });
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
  const Real pow32 = Factor(q.Reduce(u64{1} << 32), q);
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
    const Words r = ToWords(Normalise(sum, c));
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
