// The polynomials of a released model's sites.
#pragma once

#include "train/convert.h"
#include "train/distil/released_model.h"

namespace polyveil::train {

// The cheapest polynomial within the budget for every site of every layer, on the seen ranges times
// the margin. Errors: kOutOfRange for a site whose range is empty or not positive, or that no
// candidate fits.
Result<Conversion> ChooseReleasedPolynomials(const ReleasedModel& model, const SiteRanges& ranges,
                                             const ConvertOptions& options);

}  // namespace polyveil::train
