// Galois automorphisms X -> X^g of Z[X]/(X^N + 1) as index tables.
#pragma once

#include <span>
#include <vector>

#include "ring/modulus.h"

namespace polyveil::ring {

// 5^step mod 2n: rotates the slots by `step` to the left. Any step; taken mod n/2.
u64 GaloisElement(i64 step, size_t n);
// 2n - 1: complex conjugation of the slots.
inline u64 ConjugationElement(size_t n) { return 2 * n - 1; }
// The element of the inverse automorphism: g^-1 mod 2n (g odd).
u64 InverseGaloisElement(u64 g, size_t n);

// The table for NTT form: NTT(a(X^g))[j] = NTT(a)[table[j]], for kernels' permute and the permuted
// products.
std::vector<u32> NttAutomorphism(u64 g, size_t n);

// Coefficient form: the coefficient j of a(X^g) is +-a[index[j]]. Entry: index, with bit 31 set for
// the sign.
std::vector<u32> CoeffAutomorphism(u64 g, size_t n);
// out[j] = the signed a[index[j]] mod q. out must not be in.
void ApplyCoeffAutomorphism(std::span<u64> out, std::span<const u64> in, std::span<const u32> table,
                            const Modulus& q);

}  // namespace polyveil::ring
