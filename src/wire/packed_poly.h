// Ring elements on the wire: each residue takes the bits of its modulus, nothing more.
#pragma once

#include <span>
#include <vector>

#include "ckks/keys.h"
#include "ckks/parameters.h"
#include "ring/rns_poly.h"
#include "wire/bytes.h"

namespace polyveil::wire {

// The moduli of a ring element's limbs, in their order.
using Moduli = std::vector<const ring::Modulus*>;

Moduli LevelModuli(const ckks::Parameters& params, int level);  // q_0 .. q_(limbs(level)-1)
Moduli KeyModuli(const ckks::KeyShape& shape);                  // of a key's rows

// Bytes of a polynomial over `moduli`: sum of n * bits(q) / 8; n is a multiple of 8.
size_t PackedBytes(const Moduli& moduli, size_t n);

// Least significant bit first, limbs one after the other, each from a byte boundary.
void WritePoly(Writer& writer, const ring::RnsPoly& poly, const Moduli& moduli);

// Shape: moduli.size() limbs x n. Range: refuses residues >= q (kOutOfRange: limb, index, both
// values). The bytes' size is checked before anything is allocated.
Result<ring::RnsPoly> ReadPoly(Reader& reader, const Moduli& moduli, size_t n,
                               std::string_view field);

}  // namespace polyveil::wire
