#include "ring/rns_poly.h"

#include <cstring>

namespace polyveil::ring {

RnsPoly RnsPoly::CopyPrefix(size_t limbs) const {
  PV_CHECK(limbs <= limbs_, "prefix of {} of {} limbs", limbs, limbs_);
  RnsPoly result(limbs, n_);
  if (limbs > 0) std::memcpy(result.data(), data(), limbs * n_ * sizeof(u64));
  return result;
}

}  // namespace polyveil::ring
