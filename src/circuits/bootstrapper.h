// Bootstrapping with SlotsToCoeffs first: StC, ModRaise with sparse-secret encapsulation, trace, CtS, EvalMod.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/key_request.h"
#include "circuits/linear_transform.h"

namespace polyveil::circuits {

// Slots have period 2^log_period (log_period = log_slots: a full bootstrap). `complex_slots`: both parts carry data; otherwise the
// imaginary parts are discarded (and become exactly zero up to noise).
struct BootstrapSpec {
  int log_period = 0;
  bool complex_slots = false;

  auto operator<=>(const BootstrapSpec&) const = default;
};

// Seconds spent in each step, for the latency table.
struct BootstrapTimes {
  double stc = 0, mod_raise = 0, trace = 0, cts = 0, eval_mod = 0;
};

class Bootstrapper {
 public:
  // Needs the parameters' kSlotsToCoeffs, kEvalMod and kCoeffsToSlots levels. Precomputes all diagonals.
  static Result<Bootstrapper> Create(ckks::ParametersPtr params, const ckks::Encoder& encoder, const BootstrapSpec& spec);
  // Without encoding anything: what `polyveil keygen` and the planner ask.
  static Result<ckks::KeyRequest> Keys(const ckks::Parameters& params, const BootstrapSpec& spec);

  const BootstrapSpec& spec() const { return spec_; }
  int input_level() const;    // params.bootstrap_level()
  int output_level() const;   // params.working_level()
  double output_scale() const;  // params.scale(output_level())
  size_t plaintext_bytes() const;

  // Range: |slot| <= 1 (complex: |re|, |im| <= 1); beyond about 1.5 precision decays, beyond q0/scale/2 the result is garbage.
  // Level/scale: in at any level >= input_level() and any scale (adjusted to the nominal one first, at the drop's no cost, when level > input_level();
  // at level == input_level() the scale must equal params.scale(level) to 2^-20 relative, or is absorbed in StC when it is one of `Create`'s), out at (output_level(), output_scale()).
  // Precision: worst slot >= 13 bits at N = 2^16 (tests state the bound derived from the noise analysis).
  Result<ckks::Ciphertext> Bootstrap(const ckks::Evaluator& evaluator, const ckks::Ciphertext& x,
                                     BootstrapTimes* times = nullptr) const;

 private:
  Bootstrapper() = default;
  BootstrapSpec spec_;
  ckks::ParametersPtr params_;
  std::vector<LinearTransform> stc_, cts_;
  std::vector<double> eval_mod_coeffs_;
};

}  // namespace polyveil::circuits
