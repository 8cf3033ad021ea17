// Values of the scheme. All polynomials are in NTT form with residues in [0, q).
#pragma once

#include <vector>

#include "ring/rns_poly.h"

namespace polyveil::ckks {

// An encoded vector of slots. Shape: limbs(level) x N (plus P limbs when `with_p`, for hoisted
// linear transforms).
struct Plaintext {
  ring::RnsPoly poly;
  int level = 0;
  double scale = 1;
  bool with_p = false;
};

// (c0, c1) with c0 + c1 s = scale * m + e. Three components only between a lazy product and its
// relinearisation.
struct Ciphertext {
  std::vector<ring::RnsPoly> parts;
  int level = 0;
  double scale = 1;

  int degree() const { return static_cast<int>(parts.size()) - 1; }
};

}  // namespace polyveil::ckks
