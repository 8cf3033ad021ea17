// Rows and moduli of evaluation keys.
#pragma once

#include <cstdint>
#include <vector>

#include "ckks/parameters.h"

namespace polyveil::ckks {

// What a key switches, and so its moduli and rows.
enum class KeyKind : std::uint8_t {
  kGadget =
      0,  // s' -> s (rotation, conjugation, relinearisation): digits(level) rows over Q_level P
  kToSparse = 1,  // dense s -> sparse s': one row over q0 P' (<= 120 bits); level 0
  kToDense = 2,   // sparse s' -> dense s for a polynomial below q0: one row over Q p_0; max_level()
};

// Rows and moduli of a key, in the order of its limbs: Q limbs first.
struct KeyShape {
  int rows = 0;
  std::vector<const ring::NttTables*> tables;  // one per limb
  std::vector<int> chain_indices;              // q_j: j; p_j: 128 + j; P': 255

  size_t limbs() const { return tables.size(); }
  // Bytes of b alone, what is stored and sent, and of the expanded key.
  size_t seeded_bytes(size_t n) const { return rows * limbs() * n * sizeof(u64); }
  size_t expanded_bytes(size_t n) const { return 2 * seeded_bytes(n); }
};

// Requires 0 <= level <= max_level(); level is ignored unless kGadget.
KeyShape ShapeOf(const Parameters& params, KeyKind kind, int level);

}  // namespace polyveil::ckks
