// EvalMod: removes the multiples of q0 that ModRaise leaves behind, x = I + z / ratio -> z for real
// slots, with sin(2 pi x) from a polynomial and double angles. Source: Han, Ki 2020, ePrint
// 2019/688; see cosine_fit.h.
#pragma once

#include <span>

#include "base/result.h"
#include "circuits/cosine_fit.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/key_request.h"

namespace polyveil::circuits {

// q0 / scale at level 0: the message is this much smaller than q0, which keeps the sine's cubic
// error below 2^-17.
inline constexpr double kMessageRatio = 1024;

class EvalMod {
 public:
  // Errors: kInvalidArgument unless the parameters have as many kEvalMod levels as the circuit's
  // depth (8).
  static Result<EvalMod> Create(const ckks::Parameters& params);

  int input_level() const { return input_level_; }
  // The input's slots are u = x / half_width() at this scale.
  double input_scale() const { return input_scale_; }
  double fit_scale() const { return fit_scale_; }  // of the polynomial's result, before the angles
  double half_width() const { return fit_.half_width; }

  // Shape: real slots |x - I| <= 1.5 / kMessageRatio, |I| <= 16, at (input_level, input_scale).
  // Level/scale: out at (working_level, params.scale(working_level)) exactly.
  // Cost: 10 relinearised products. Error: |z|^3 2^-17.3 + |z| 2^-17.7 of opposite signs (2^-19.3
  // for |z| <= 1), 2^-19 of the fit (2^-13 at |I| = 16, which has probability < 2^-130), noise
  // (2^-17.5 in the worst slot at N = 2^16, from the rounding of C_2 at x = 0). Errors: kMismatch,
  // kMissingKey.
  Result<ckks::Ciphertext> Apply(const ckks::Evaluator& evaluator, const ckks::Ciphertext& u) const;

  // mask * EvalMod(u), a mask of any period, at the same level and scale. Cost: 14 relinearised
  // products.
  Result<ckks::Ciphertext> ApplyMasked(const ckks::Evaluator& evaluator,
                                       const ckks::Encoder& encoder, const ckks::Ciphertext& u,
                                       std::span<const ckks::Complex> mask) const;

  void AddKeys(ckks::KeyRequest& request) const { request.AddRelinearization(input_level_); }

 private:
  Result<ckks::Ciphertext> Shifted(const ckks::Evaluator& evaluator,
                                   const ckks::Ciphertext& u) const;

  CosineFit fit_;
  int input_level_ = 0;
  double input_scale_ = 1, fit_scale_ = 1, output_scale_ = 1;
};

}  // namespace polyveil::circuits
