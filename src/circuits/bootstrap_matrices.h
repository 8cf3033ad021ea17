// The Fourier factors of a bootstrap: what SlotsToCoeffs and CoeffsToSlots compute for each kind of
// slots. Plain arithmetic; bootstrapper.cc runs them on ciphertexts.
#pragma once

#include <compare>
#include <vector>

#include "circuits/diagonal_matrix.h"
#include "ckks/parameters.h"

namespace polyveil::circuits {

// Slots have period 2^log_period (log_period = log_slots: a full bootstrap). `complex_slots`: both
// parts carry data; otherwise the imaginary parts are discarded (and become exactly zero up to
// noise).
struct BootstrapSpec {
  int log_period = 0;
  bool complex_slots = false;

  auto operator<=>(const BootstrapSpec&) const = default;
};

// The transforms act on `transform_size()` complex slots. Real slots are folded to half their
// period first, z_low + i z_high, so that both parts of every coefficient's slot carry data.
// `packed`: CoeffsToSlots leaves [2 Re | 2 Im] in two periods of that size, for one EvalMod; else
// it leaves Re + i Im in one.
struct BootstrapShape {
  int log_size = 0;
  bool packed = false;

  int transform_size() const { return 1 << log_size; }
  // Imaginary parts would mix into the other half.
  bool folds(const BootstrapSpec& spec) const { return spec.log_period > log_size; }
  // Period of what the last CoeffsToSlots factor leaves.
  int log_output_period() const { return log_size + packed; }
};

BootstrapShape ShapeOf(const ckks::Parameters& params, const BootstrapSpec& spec);

// In the order of application, one per level of the role. CoeffsToSlots' product is
// transform_size() times the inverse. Requires: at least one level of each role.
std::vector<DiagonalMatrix> SlotsToCoeffsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec);
std::vector<DiagonalMatrix> CoeffsToSlotsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec);

// `first` over one period of the transform, then `second` over one.
std::vector<Complex> Halves(const BootstrapShape& shape, Complex first, Complex second);

}  // namespace polyveil::circuits
