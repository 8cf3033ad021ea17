// The backend contract: one table of functions, implemented by every backend with bit-equal
// results.
//
// Every pointer to u64 words is 64-byte aligned (index tables need not be); n is a multiple of 64
// (of N for transforms: 2^10..2^17). Inputs are residues in [0, q) unless said; results are always
// fully reduced, in [0, q). Aliasing: an output may be exactly one of the inputs (same start) where
// said; partial overlap never. Nothing fails: violated ranges are the caller's bug. Kernels run on
// the calling thread; parallelism is the caller's. Time depends on n, count and the modulus only,
// never on the words (secrets pass through them).
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "ring/modulus.h"
#include "ring/ntt_tables.h"

namespace polyveil::ring {

inline constexpr size_t kMaxProducts = 64;  // terms of one inner product

struct Kernels {
  const char* name;  // "ref", "avx2", "avx512ifma"

  // Negacyclic transforms; the order is that of ntt_tables.h. out may be in.
  void (*forward_ntt)(u64* out, const u64* in, const NttTables& tables);
  // out = scale * NTT^-1(in): scale in [0, q) is fused with 1/N (pass 1 for the plain inverse).
  void (*inverse_ntt)(u64* out, const u64* in, const NttTables& tables, u64 scale);

  // Element-wise; out may be any input.
  void (*add)(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q);
  void (*sub)(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q);
  void (*negate)(u64* out, const u64* a, size_t n, const Modulus& q);
  void (*mul)(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q);
  // out = a * b + c
  void (*mul_add)(u64* out, const u64* a, const u64* b, const u64* c, size_t n, const Modulus& q);
  // out = a * s; a may be any value below 2^52 (not only below q).
  void (*mul_scalar)(u64* out, const u64* a, u64 s, size_t n, const Modulus& q);
  // out = a * s + c
  void (*mul_scalar_add)(u64* out, const u64* a, u64 s, const u64* c, size_t n, const Modulus& q);
  // out = (a - b) * s: the end of ModDown and of Rescale.
  void (*sub_mul_scalar)(u64* out, const u64* a, const u64* b, u64 s, size_t n, const Modulus& q);
  // out = a mod `to`, a residues of `from`. centred: a stands for its representative in (-from/2,
  // from/2].
  void (*reduce_from)(u64* out, const u64* a, size_t n, const Modulus& from, const Modulus& to,
                      bool centred);

  // out[j] = sum_{i < count} a[i][j] * b[i][j], 1 <= count <= kMaxProducts, reduced once.
  // a: words below 2^50 (not only below q), b in [0, q). out may be an a[i] or b[i].
  void (*inner_product)(u64* out, const u64* const* a, const u64* const* b, size_t count, size_t n,
                        const Modulus& q);
  // The same with two outputs that share a (key switching): out0 = sum a b0, out1 = sum a b1.
  void (*inner_product2)(u64* out0, u64* out1, const u64* const* a, const u64* const* b0,
                         const u64* const* b1, size_t count, size_t n, const Modulus& q);
  // The same with a[i][j >> log_repeat] in place of a[i][j] (plaintexts of short periods), 3 <=
  // log_repeat. a needs no alignment; n is a multiple of 64 as ever.
  void (*inner_product2_repeated)(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                                  const u64* const* b0, const u64* const* b1, size_t count,
                                  size_t n, const Modulus& q);
  // The same with a[i][perm[j]] in place of a[i][j] (hoisted rotation). No output may be an a[i].
  // perm: a table of NttAutomorphism, n = N. It maps each aligned block of eight onto one; kernels
  // use that.
  void (*inner_product2_permuted)(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                                  const u64* const* b0, const u64* const* b1, size_t count,
                                  size_t n, const Modulus& q);
  // Base conversion: for every k < out_count
  //   out[k][j] = sum_{i < count} x[i][j] * factors[k * count + i] mod q[k].
  // x: words below 2^50 of any modulus, factors in [0, q[k]). No output may be an input.
  void (*inner_product_scalar)(u64* const* out, const u64* const* x, const u64* factors,
                               size_t out_count, size_t count, size_t n, const Modulus* const* q);
  // u[j] = floor(sum_{i < count} double(x[i][j]) * inverse[i] + 0.5), terms added in order of i,
  // each product and sum rounded to double (no contraction). x below 2^50.
  void (*approximate_quotient)(u64* u, const u64* const* x, const double* inverse, size_t count,
                               size_t n);

  // out[j] = in[perm[j]], perm as above. out must not be in.
  void (*permute)(u64* out, const u64* in, const u32* perm, size_t n);

  // Expansion of seeds: every word below the largest multiple of q below 2^64, mod q, in order;
  // returns their number. Public words only: time and result depend on them. Any n, any alignment;
  // out may be in; words of out beyond the returned number are unspecified. Requires q > 2^13.
  size_t (*reduce_uniform)(u64* out, const u64* in, size_t n, const Modulus& q);
};

// The backend in use: the best that the CPU has, unless overridden. Defined by src/backend.
// Thread-safe.
const Kernels& ActiveKernels();

// The backends that this CPU can run, best first, and one by name (tests and benchmarks).
std::vector<const Kernels*> AvailableKernels();
// Selects a backend for the whole process ("ref", "avx2", "avx512ifma"; "" or "auto" for the best).
// The environment variable POLYVEIL_BACKEND does the same at start. Errors: kUnavailable.
Status SetBackend(std::string_view name);

}  // namespace polyveil::ring
