// Bootstrapping with SlotsToCoeffs first: StC, ModRaise with sparse-secret encapsulation, CtS,
// trace, EvalMod. The trace stands behind CtS, with which it commutes, two levels lower. Sources:
// Chen, Han 2018 (slim form of ePrint 2018/067); Cheon et al. ePrint 2018/153 and Chen, Chillotti,
// Song 2018/1043 (Fourier factors, sparse slots); Bossuat et al. 2020/1203 (double hoisting) and
// 2022/024 (encapsulation).
#pragma once

#include <vector>

#include "base/result.h"
#include "circuits/bootstrap_matrices.h"
#include "circuits/eval_mod.h"
#include "circuits/linear_transform.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/key_request.h"

namespace polyveil::circuits {

// Seconds spent in each step, for the latency table.
struct BootstrapTimes {
  double stc = 0, mod_raise = 0, trace = 0, cts = 0, eval_mod = 0;

  double total() const { return stc + mod_raise + trace + cts + eval_mod; }
};

class Bootstrapper {
 public:
  // Needs the parameters' kSlotsToCoeffs, kEvalMod and kCoeffsToSlots levels. Precomputes all
  // diagonals. Errors: kInvalidArgument (period above the slots, a level role that is missing),
  // those of Encode.
  static Result<Bootstrapper> Create(ckks::ParametersPtr params, const ckks::Encoder& encoder,
                                     const BootstrapSpec& spec);
  // Without encoding anything: what `polyveil keygen` and the planner ask. Same errors.
  static Result<ckks::KeyRequest> Keys(const ckks::Parameters& params, const BootstrapSpec& spec);

  const BootstrapSpec& spec() const { return spec_; }
  int input_level() const { return params_->bootstrap_level(); }
  int output_level() const { return params_->working_level(); }
  double output_scale() const { return params_->scale(output_level()); }
  size_t plaintext_bytes() const;

  // Range: |slot| <= 1 (complex: |re|, |im| <= 1); beyond about 1.5 precision decays, beyond
  // kMessageRatio / 2 the result is garbage. Slots must have the spec's period. Level/scale: in at
  // any level >= input_level() and any scale (adjusted to the nominal one first, at the drop's no
  // cost, when level > input_level(); at level == input_level() the scale must equal
  // params.scale(level) to 2^-20 relative), out at (output_level(), output_scale()). Precision:
  // worst slot >= 13 bits at N = 2^16 (tests state the bound derived from the noise analysis).
  // Errors: kOutOfRange (level), kMismatch (scale, degree), kMissingKey.
  Result<ckks::Ciphertext> Bootstrap(const ckks::Evaluator& evaluator, const ckks::Ciphertext& x,
                                     BootstrapTimes* times = nullptr) const;
  // The same for |slot| <= 2^-log_gain, with that much less error: the message fills EvalMod's
  // interval. Out at scale output_scale() * 2^log_gain. Range: 0 <= log_gain <= kMaxLogGain.
  Result<ckks::Ciphertext> BootstrapSmall(const ckks::Evaluator& evaluator,
                                          const ckks::Ciphertext& x, int log_gain,
                                          BootstrapTimes* times = nullptr) const;
  // Twice the work for the precision of the working levels: the error of a first bootstrap is
  // bootstrapped in turn and taken away. Out at (output_level() - 1, its nominal scale). Precision:
  // that of a few roundings at the working scale. Errors: as Bootstrap. Source: Meta-BTS, Bae et
  // al. 2022, ePrint 2022/1167.
  Result<ckks::Ciphertext> BootstrapTwice(const ckks::Evaluator& evaluator,
                                          const ckks::Ciphertext& x,
                                          BootstrapTimes* times = nullptr) const;
  static constexpr int kMaxLogGain = 16;

 private:
  Bootstrapper(const BootstrapSpec& spec, const ckks::Encoder& encoder, EvalMod eval_mod)
      : spec_(spec),
        params_(encoder.params()),
        shape_(ShapeOf(*params_, spec)),
        encoder_(encoder),
        eval_mod_(std::move(eval_mod)) {}

  Result<ckks::Ciphertext> AtInputLevel(const ckks::Evaluator& evaluator,
                                        const ckks::Ciphertext& x) const;
  Result<ckks::Ciphertext> Prepare(const ckks::Evaluator& evaluator,
                                   const ckks::Ciphertext& x) const;
  Result<ckks::ExtendedCiphertext> CoeffsToSlots(const ckks::Evaluator& evaluator,
                                                 ckks::Ciphertext y, BootstrapTimes& times) const;
  Status Trace(const ckks::Evaluator& evaluator, ckks::ExtendedCiphertext& x) const;
  Result<ckks::Ciphertext> RemoveMultiples(const ckks::Evaluator& evaluator,
                                           const ckks::ExtendedCiphertext& y,
                                           BootstrapTimes& times) const;
  Result<ckks::Ciphertext> EvalModBoth(const ckks::Evaluator& evaluator,
                                       const ckks::ExtendedCiphertext& y) const;
  Result<ckks::Ciphertext> Rescale(const ckks::Evaluator& evaluator,
                                   const ckks::ExtendedCiphertext& x) const;
  Result<ckks::Ciphertext> MeanOfPeriods(const ckks::Evaluator& evaluator,
                                         const ckks::Ciphertext& x) const;
  Result<ckks::Ciphertext> EvalModPacked(const ckks::Evaluator& evaluator,
                                         const ckks::Ciphertext& x) const;

  BootstrapSpec spec_;
  ckks::ParametersPtr params_;
  BootstrapShape shape_;
  ckks::Encoder encoder_;
  std::vector<LinearTransform> stc_, cts_;
  EvalMod eval_mod_;
};

}  // namespace polyveil::circuits
