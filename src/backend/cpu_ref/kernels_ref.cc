// The scalar reference: portable, one obvious loop per kernel. Every other backend is bit-equal to
// it.
#include <algorithm>

#include "backend/backends.h"

namespace polyveil::backend {
namespace {

using ring::Modulus;
using ring::NttTables;
using ring::ShoupFactor;
using ring::TwiddleTable;

// The factor of block i of m is base * unit: unit is 1 but for the last two stages, whose tables
// are shared.
struct Factor {
  ShoupFactor base;
  ShoupFactor unit;
};

Factor BlockFactor(const TwiddleTable& t, size_t n, size_t m, size_t i) {
  const size_t shared = m == n / 2 ? 4 : m == n / 4 ? 2 : 1;
  const size_t at = (m == n / 2 ? 3 * n / 8 : m) + i / shared;
  return {{t.power[at], t.quotient[at]}, t.unit[i % shared]};
}

// Without a branch: on random words it would be mispredicted half of the time.
u64 SubIfNotBelow(u64 a, u64 b) {
  const u64 difference = a - b;
  return difference + (b & (u64{0} - (difference >> 63)));
}

// x * factor in [0, 2q), any x < 2^52.
u64 MulFactor(u64 x, const Factor& w, const Modulus& q) {
  return q.MulShoupLazy(q.MulShoupLazy(x, w.base), w.unit);
}

// Harvey's lazy butterflies (2014, "Faster arithmetic for number-theoretic transforms", Alg. 4):
// words stay in [0, 4q), reduced in the end. Cooley-Tukey order of Longa and Naehrig 2016, ePrint
// 2016/504.
void ForwardNtt(u64* out, const u64* in, const NttTables& tables) {
  const Modulus& q = tables.modulus();
  const size_t n = tables.n();
  const u64 two_q = 2 * q.q;
  if (out != in) std::copy(in, in + n, out);
  for (size_t m = 1, distance = n / 2; m < n; m *= 2, distance /= 2) {
    for (size_t i = 0; i < m; ++i) {
      const Factor w = BlockFactor(tables.forward(), n, m, i);
      u64* x = out + 2 * i * distance;
      u64* y = x + distance;
      for (size_t j = 0; j < distance; ++j) {
        const u64 a = SubIfNotBelow(x[j], two_q);
        const u64 b = m < n / 4 ? q.MulShoupLazy(y[j], w.base) : MulFactor(y[j], w, q);
        x[j] = a + b;
        y[j] = a - b + two_q;
      }
    }
  }
  for (size_t j = 0; j < n; ++j) out[j] = q.Reduce(out[j]);
}

// Gentleman-Sande order; words stay in [0, 2q). The last stage carries scale / N.
void InverseNtt(u64* out, const u64* in, const NttTables& tables, u64 scale) {
  const Modulus& q = tables.modulus();
  const size_t n = tables.n();
  const u64 two_q = 2 * q.q;
  if (out != in) std::copy(in, in + n, out);
  for (size_t m = n / 2, distance = 1; m > 1; m /= 2, distance *= 2) {
    for (size_t i = 0; i < m; ++i) {
      const Factor w = BlockFactor(tables.inverse(), n, m, i);
      u64* x = out + 2 * i * distance;
      u64* y = x + distance;
      for (size_t j = 0; j < distance; ++j) {
        const u64 difference = x[j] - y[j] + two_q;
        x[j] = SubIfNotBelow(x[j] + y[j], two_q);
        y[j] = m < n / 4 ? q.MulShoupLazy(difference, w.base) : MulFactor(difference, w, q);
      }
    }
  }
  const u64 factor = q.Mul(scale, tables.n_inverse());
  const ShoupFactor sum_factor = q.Shoup(factor);
  const ShoupFactor difference_factor = q.Shoup(q.Mul(factor, tables.inverse().power[1]));
  for (size_t j = 0; j < n / 2; ++j) {
    const u64 x = out[j], y = out[j + n / 2];
    out[j] = q.MulShoup(x + y, sum_factor);
    out[j + n / 2] = q.MulShoup(x - y + two_q, difference_factor);
  }
}

void Add(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) out[j] = q.Add(a[j], b[j]);
}

void Sub(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) out[j] = q.Sub(a[j], b[j]);
}

void Negate(u64* out, const u64* a, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) out[j] = q.Negate(a[j]);
}

void Mul(u64* out, const u64* a, const u64* b, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) out[j] = q.Mul(a[j], b[j]);
}

void MulAdd(u64* out, const u64* a, const u64* b, const u64* c, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) out[j] = q.Add(q.Mul(a[j], b[j]), c[j]);
}

void MulScalar(u64* out, const u64* a, u64 s, size_t n, const Modulus& q) {
  const ShoupFactor factor = q.Shoup(s);
  for (size_t j = 0; j < n; ++j) out[j] = q.MulShoup(a[j], factor);
}

void MulScalarAdd(u64* out, const u64* a, u64 s, const u64* c, size_t n, const Modulus& q) {
  const ShoupFactor factor = q.Shoup(s);
  for (size_t j = 0; j < n; ++j) out[j] = q.Add(q.MulShoup(a[j], factor), c[j]);
}

void SubMulScalar(u64* out, const u64* a, const u64* b, u64 s, size_t n, const Modulus& q) {
  const ShoupFactor factor = q.Shoup(s);
  for (size_t j = 0; j < n; ++j) out[j] = q.MulShoup(a[j] + q.q - b[j], factor);
}

void ReduceFrom(u64* out, const u64* a, size_t n, const Modulus& from, const Modulus& to,
                bool centred) {
  const u64 half = from.q / 2;
  const u64 from_mod_to = to.Reduce(from.q);
  for (size_t j = 0; j < n; ++j) {
    const u64 correction = centred && a[j] > half ? from_mod_to : 0;
    out[j] = to.Sub(to.Reduce(a[j]), correction);
  }
}

// high * 2^52 + low mod q, for sums of up to 64 products below 2^100.
u64 ReduceSum(u128 sum, const Modulus& q) {
  const u64 high = static_cast<u64>(sum >> 55);  // below 2^51
  const u64 low = static_cast<u64>(sum) & ((u64{1} << 55) - 1);
  return q.Add(q.MulShoup(high, q.pow55), q.Reduce(low));
}

void InnerProduct(u64* out, const u64* const* a, const u64* const* b, size_t count, size_t n,
                  const Modulus& q) {
  for (size_t j = 0; j < n; ++j) {
    u128 sum = 0;
    for (size_t i = 0; i < count; ++i) sum += u128{a[i][j]} * b[i][j];
    out[j] = ReduceSum(sum, q);
  }
}

void InnerProduct2(u64* out0, u64* out1, const u64* const* a, const u64* const* b0,
                   const u64* const* b1, size_t count, size_t n, const Modulus& q) {
  for (size_t j = 0; j < n; ++j) {
    u128 sum0 = 0, sum1 = 0;
    for (size_t i = 0; i < count; ++i) {
      const u64 x = a[i][j];
      sum0 += u128{x} * b0[i][j];
      sum1 += u128{x} * b1[i][j];
    }
    out0[j] = ReduceSum(sum0, q);
    out1[j] = ReduceSum(sum1, q);
  }
}

void InnerProduct2Repeated(u64* out0, u64* out1, const u64* const* a, int log_repeat,
                           const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                           const Modulus& q) {
  for (size_t j = 0; j < n; ++j) {
    u128 sum0 = 0, sum1 = 0;
    for (size_t i = 0; i < count; ++i) {
      const u64 x = a[i][j >> log_repeat];
      sum0 += u128{x} * b0[i][j];
      sum1 += u128{x} * b1[i][j];
    }
    out0[j] = ReduceSum(sum0, q);
    out1[j] = ReduceSum(sum1, q);
  }
}

void InnerProduct2Permuted(u64* out0, u64* out1, const u64* const* a, const u32* perm,
                           const u64* const* b0, const u64* const* b1, size_t count, size_t n,
                           const Modulus& q) {
  for (size_t j = 0; j < n; ++j) {
    u128 sum0 = 0, sum1 = 0;
    for (size_t i = 0; i < count; ++i) {
      const u64 x = a[i][perm[j]];
      sum0 += u128{x} * b0[i][j];
      sum1 += u128{x} * b1[i][j];
    }
    out0[j] = ReduceSum(sum0, q);
    out1[j] = ReduceSum(sum1, q);
  }
}

void InnerProductScalar(u64* const* out, const u64* const* x, const u64* factors, size_t out_count,
                        size_t count, size_t n, const Modulus* const* q) {
  for (size_t k = 0; k < out_count; ++k) {
    for (size_t j = 0; j < n; ++j) {
      u128 sum = 0;
      for (size_t i = 0; i < count; ++i) sum += u128{x[i][j]} * factors[k * count + i];
      out[k][j] = ReduceSum(sum, *q[k]);
    }
  }
}

void ApproximateQuotient(u64* u, const u64* const* x, const double* inverse, size_t count,
                         size_t n) {
  for (size_t j = 0; j < n; ++j) {
    double sum = 0.0;
    for (size_t i = 0; i < count; ++i) sum += static_cast<double>(x[i][j]) * inverse[i];
    u[j] = static_cast<u64>(sum + 0.5);
  }
}

void Permute(u64* out, const u64* in, const u32* perm, size_t n) {
  for (size_t j = 0; j < n; ++j) out[j] = in[perm[j]];
}

size_t ReduceUniform(u64* out, const u64* in, size_t n, const Modulus& q) {
  const u64 limit = q.UniformLimit();
  size_t accepted = 0;
  for (size_t j = 0; j < n; ++j)
    if (in[j] < limit) out[accepted++] = q.Reduce(in[j]);
  return accepted;
}

}  // namespace

const ring::Kernels& RefKernels() {
  static constexpr ring::Kernels kKernels{
      .name = "ref",
      .forward_ntt = ForwardNtt,
      .inverse_ntt = InverseNtt,
      .add = Add,
      .sub = Sub,
      .negate = Negate,
      .mul = Mul,
      .mul_add = MulAdd,
      .mul_scalar = MulScalar,
      .mul_scalar_add = MulScalarAdd,
      .sub_mul_scalar = SubMulScalar,
      .reduce_from = ReduceFrom,
      .inner_product = InnerProduct,
      .inner_product2 = InnerProduct2,
      .inner_product2_repeated = InnerProduct2Repeated,
      .inner_product2_permuted = InnerProduct2Permuted,
      .inner_product_scalar = InnerProductScalar,
      .approximate_quotient = ApproximateQuotient,
      .permute = Permute,
      .reduce_uniform = ReduceUniform,
  };
  return kKernels;
}

}  // namespace polyveil::backend
