#include "ckks/mod_raise.h"

#include "base/thread_pool.h"
#include "ckks/key_limb.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

using ring::ActiveKernels;
using ring::Modulus;
using ring::NttTables;
using ring::RnsPoly;

// The coefficients of a limb, from their NTT form.
void ToCoefficients(u64* out, const u64* in, const NttTables& tables) {
  ActiveKernels().inverse_ntt(out, in, tables, 1);
}

// NTT form mod `to` of centred coefficients mod `from`.
void Lift(u64* out, const u64* coefficients, const NttTables& from, const NttTables& to) {
  ActiveKernels().reduce_from(out, coefficients, to.n(), from.modulus(), to.modulus(), true);
  ActiveKernels().forward_ntt(out, out, to);
}

// limb = (limb - [remainder]) / from, the end of a division by the prime `from`.
void Divide(u64* limb, const u64* remainder, const NttTables& from, const NttTables& to) {
  const Modulus& q = to.modulus();
  Buffer lifted(to.n());
  Lift(lifted.data(), remainder, from, to);
  ActiveKernels().sub_mul_scalar(limb, limb, lifted.data(), q.Inverse(q.Reduce(from.modulus().q)),
                                 to.n(), q);
}

// A whole limb of a key of one row.
class KeyLimb {
 public:
  KeyLimb(const Parameters& params, const KeySwitchKey& key, size_t limb) {
    KeyLimbReader reader(params, key, limb, 1);
    expanded_ = Buffer(reader.ScratchWords(params.n()));
    reader.Next(params.n(), expanded_.data(), &halves_[0], &halves_[1]);
  }
  // 0: b, 1: a.
  const u64* operator[](size_t half) const { return halves_[half]; }

 private:
  Buffer expanded_;
  const u64* halves_[2];
};

// s -> s' over q0 P': one limb each.
std::vector<RnsPoly> ToSparse(const Parameters& params, const Ciphertext& a,
                              const KeySwitchKey& key) {
  const NttTables& base = params.q_table(0);
  const NttTables& special = params.encapsulation_table();
  const size_t n = params.n();
  const ring::Kernels& kernels = ActiveKernels();
  Buffer c1(n), c1_special(n), remainder(n);
  ToCoefficients(c1.data(), a.parts[1].ptr(0), base);
  Lift(c1_special.data(), c1.data(), base, special);
  std::vector<RnsPoly> result;
  const KeyLimb key_base(params, key, 0), key_special(params, key, 1);
  for (size_t k = 0; k < 2; ++k) {
    RnsPoly& out = result.emplace_back(1, n);
    kernels.mul(out.ptr(0), a.parts[1].ptr(0), key_base[k], n, base.modulus());
    kernels.mul(remainder.data(), c1_special.data(), key_special[k], n, special.modulus());
    ToCoefficients(remainder.data(), remainder.data(), special);
    Divide(out.ptr(0), remainder.data(), special, base);
  }
  kernels.add(result[0].ptr(0), result[0].ptr(0), a.parts[0].ptr(0), n, base.modulus());
  return result;
}

}  // namespace

Ciphertext RaiseModulus(const Parameters& params, const Ciphertext& a,
                        const KeySwitchKey& to_sparse, const KeySwitchKey& to_dense) {
  PV_CHECK(to_sparse.kind == KeyKind::kToSparse && to_dense.kind == KeyKind::kToDense &&
               to_sparse.b.size() == 1 && to_dense.b.size() == 1,
           "keys of kinds {} and {}, {} and {} rows", static_cast<int>(to_sparse.kind),
           static_cast<int>(to_dense.kind), to_sparse.b.size(), to_dense.b.size());
  const size_t n = params.n(), limbs = params.q_count();
  const NttTables& base = params.q_table(0);
  const NttTables& special = params.p_table(0);
  const ring::Kernels& kernels = ActiveKernels();
  std::vector<RnsPoly> sparse = ToSparse(params, a, to_sparse);
  for (RnsPoly& part : sparse) ToCoefficients(part.ptr(0), part.ptr(0), base);

  // The products' residues mod p_0, in coefficient form: what the division takes away.
  const KeyLimb key_special(params, to_dense, limbs);
  Buffer remainders[2] = {Buffer(n), Buffer(n)}, lifted(n);
  Lift(lifted.data(), sparse[1].ptr(0), base, special);
  ParallelFor(2, [&](size_t k) {
    u64* out = remainders[k].data();
    kernels.mul(out, lifted.data(), key_special[k], n, special.modulus());
    ToCoefficients(out, out, special);
  });

  Ciphertext result;
  result.level = params.max_level();
  result.scale = a.scale;
  for (int k = 0; k < 2; ++k) result.parts.emplace_back(limbs, n);
  ParallelFor(limbs, [&](size_t j) {
    const NttTables& tables = params.q_table(static_cast<int>(j));
    const KeyLimb key_limb(params, to_dense, j);
    Buffer part(n);
    Lift(part.data(), sparse[1].ptr(0), base, tables);
    for (size_t k = 0; k < 2; ++k) {
      u64* out = result.parts[k].ptr(j);
      kernels.mul(out, part.data(), key_limb[k], n, tables.modulus());
      Divide(out, remainders[k].data(), special, tables);
    }
    Lift(part.data(), sparse[0].ptr(0), base, tables);
    u64* out = result.parts[0].ptr(j);
    kernels.add(out, out, part.data(), n, tables.modulus());
  });
  return result;
}

}  // namespace polyveil::ckks
