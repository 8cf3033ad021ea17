// Intervals made too narrow on purpose: how checks of broken runs are tested and measured.
#pragma once

#include <string_view>

#include "model/decoder.h"

namespace polyveil::model {

// The site of a layer's polynomial whose interval is narrowed; empty: all three.
// "norm 1", "divisor", "norm 2".
struct Narrowing {
  double ratio = 1;  // >= 1: the new interval is [lo ratio, hi / ratio] of what calibration saw
  std::string_view site{};
};

// Refits the polynomials at their own degrees. Errors: kOutOfRange when an interval gets empty,
// when calibration's ranges are not known, kInvalidArgument (an unknown site, a ratio below 1).
Status Narrow(Decoder& decoder, const Narrowing& narrowing);

}  // namespace polyveil::model
