#include "circuits/eval_mod.h"

#include <cmath>
#include <numbers>

#include "circuits/chebyshev.h"
#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

// z = gain * ratio / (4 pi) * (2 sin(2 pi x)). The gain spreads the cubic error: max over |z| <= 1
// of |z - (1 + 3a/4)(z - a z^3)| is a / 4 instead of a, a = (2 pi / ratio)^2 / 6.
double OutputFactor() {
  const double step = 2 * std::numbers::pi / kMessageRatio;
  return (1 + 0.75 * step * step / 6) / (2 * step);
}

}  // namespace

Result<EvalMod> EvalMod::Create(const ckks::Parameters& params) {
  EvalMod result;
  const CosineFitSpec spec;
  const int depth = ChebyshevDepth(spec.degree) + spec.double_angles;
  const int levels = params.LevelsWithRole(ckks::LevelRole::kEvalMod);
  if (levels != depth) {
    return MakeError(ErrorCode::kInvalidArgument, "EvalMod: {} levels of its role, needs {}",
                     levels, depth);
  }
  if (params.spec().sparse_hamming_weight > 2 * spec.integer_bound) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "EvalMod: sparse_hamming_weight = {} > {}, its interval",
                     params.spec().sparse_hamming_weight, 2 * spec.integer_bound);
  }
  result.fit_ = FitCosine(spec);
  const int output_level = params.working_level();
  result.input_level_ = output_level + depth;
  result.input_scale_ = LevelModulus(params, result.input_level_);
  result.output_scale_ = params.scale(output_level);
  // Backwards through the squarings, s -> s^2 / q, from the scale that the output is re-declared
  // from.
  double scale = result.output_scale_ * OutputFactor();
  for (int i = 1; i <= spec.double_angles; ++i)
    scale = std::sqrt(scale * LevelModulus(params, output_level + i));
  result.fit_scale_ = scale;
  return result;
}

// x - 1/4 over half_width.
Result<ckks::Ciphertext> EvalMod::Shifted(const ckks::Evaluator& evaluator,
                                          const ckks::Ciphertext& u) const {
  if (u.level != input_level_ || !ckks::SameScale(u.scale, input_scale_)) {
    return MakeError(
        ErrorCode::kMismatch,
        "EvalMod: ciphertext level {}, scale {:.10g}; expected level {}, scale {:.10g}", u.level,
        u.scale, input_level_, input_scale_);
  }
  return evaluator.AddConstant(u, -0.25 / fit_.half_width);
}

Result<ckks::Ciphertext> EvalMod::Apply(const ckks::Evaluator& evaluator,
                                        const ckks::Ciphertext& u) const {
  PV_ASSIGN_OR_RETURN(const ckks::Ciphertext shifted, Shifted(evaluator, u));
  PV_ASSIGN_OR_RETURN(ckks::Ciphertext y,
                      EvaluateChebyshev(evaluator, shifted, fit_.coeffs, fit_scale_));
  for (int i = 0; i < fit_.double_angles; ++i) {
    PV_ASSIGN_OR_RETURN(y, evaluator.SquareRescale(y));
    evaluator.AddConstantInplace(y, -2);
  }
  y.scale = output_scale_;
  return y;
}

Result<ckks::Ciphertext> EvalMod::ApplyMasked(const ckks::Evaluator& evaluator,
                                              const ckks::Encoder& encoder,
                                              const ckks::Ciphertext& u,
                                              std::span<const ckks::Complex> mask) const {
  PV_ASSIGN_OR_RETURN(const ckks::Ciphertext shifted, Shifted(evaluator, u));
  PV_ASSIGN_OR_RETURN(
      auto y, EvaluateChebyshevMasked(evaluator, encoder, shifted, fit_.coeffs, mask, fit_scale_));
  std::vector<ckks::Complex> twice(mask.begin(), mask.end());
  for (auto& value : twice) value *= 2;
  // mask (y^2 - 2) = (mask y) y - 2 mask; the last y itself is not needed.
  for (int i = 0; i < fit_.double_angles; ++i) {
    PV_ASSIGN_OR_RETURN(y.masked, evaluator.MulRescale(y.masked, y.plain));
    PV_ASSIGN_OR_RETURN(const ckks::Plaintext offset,
                        encoder.Encode(twice, y.masked.level, y.masked.scale));
    PV_ASSIGN_OR_RETURN(y.masked, evaluator.SubPlain(y.masked, offset));
    if (i + 1 == fit_.double_angles) break;
    PV_ASSIGN_OR_RETURN(y.plain, evaluator.SquareRescale(y.plain));
    evaluator.AddConstantInplace(y.plain, -2);
  }
  y.masked.scale = output_scale_;
  return std::move(y.masked);
}

}  // namespace polyveil::circuits
