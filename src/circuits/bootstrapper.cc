#include "circuits/bootstrapper.h"

#include <cmath>

#include "base/system.h"
#include "circuits/dft_matrices.h"
#include "circuits/level_modulus.h"
#include "ckks/key_plan.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;
using ckks::LevelRole;

Status CheckSpec(const ckks::Parameters& params, const BootstrapSpec& spec) {
  if (spec.log_period < 0 || spec.log_period > params.log_slots()) {
    return MakeError(ErrorCode::kInvalidArgument, "bootstrap: log_period = {}, expected 0..{}",
                     spec.log_period, params.log_slots());
  }
  for (const LevelRole role : {LevelRole::kSlotsToCoeffs, LevelRole::kCoeffsToSlots}) {
    if (params.LevelsWithRole(role) > 0) continue;
    return MakeError(ErrorCode::kInvalidArgument, "bootstrap: parameters {} have no {} level",
                     params.spec().name,
                     role == LevelRole::kSlotsToCoeffs ? "SlotsToCoeffs" : "CoeffsToSlots");
  }
  return {};
}

std::vector<DiagonalMatrix> SlotsToCoeffsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec) {
  return SlotsToCoeffsFactors(spec.log_period, params.LevelsWithRole(LevelRole::kSlotsToCoeffs));
}

// Complex sparse slots: real parts in one period, imaginary parts in the next, so that one EvalMod
// serves both.
bool IsPacked(const ckks::Parameters& params, const BootstrapSpec& spec) {
  return spec.complex_slots && spec.log_period < params.log_slots();
}

// `first` over one period, then `second` over one.
std::vector<Complex> Halves(const BootstrapSpec& spec, Complex first, Complex second) {
  std::vector<Complex> halves(size_t{1} << spec.log_period, first);
  halves.resize(2 * halves.size(), second);
  return halves;
}

std::vector<DiagonalMatrix> CoeffsToSlotsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec) {
  auto factors =
      CoeffsToSlotsFactors(spec.log_period, params.LevelsWithRole(LevelRole::kCoeffsToSlots));
  // Re(w) in the first period, Re(-i w) = Im(w) in the second.
  if (IsPacked(params, spec))
    factors.back() = ScaleRows(factors.back(), Halves(spec, 1, Complex(0, -1)));
  return factors;
}

// Product of the rescale factors of `count` levels from `top` down.
double LevelModuli(const ckks::Parameters& params, int top, int count) {
  double product = 1;
  for (int i = 0; i < count; ++i) product *= LevelModulus(params, top - i);
  return product;
}

// One transform per matrix from level `top` down, the scale going from `input_scale` to
// `output_scale`; every level gets the same plaintext scale, so that no factor is encoded coarsely.
Result<std::vector<LinearTransform>> CreateTransforms(const ckks::Encoder& encoder,
                                                      const std::vector<DiagonalMatrix>& matrices,
                                                      int top, double input_scale,
                                                      double output_scale) {
  const ckks::Parameters& params = *encoder.params();
  const int count = static_cast<int>(matrices.size());
  const double plain_scale =
      std::pow(output_scale / input_scale * LevelModuli(params, top, count), 1.0 / count);
  std::vector<LinearTransform> transforms;
  double scale = input_scale;
  for (int i = 0; i < count; ++i) {
    const int level = top - i;
    const double next =
        i + 1 == count ? output_scale : scale * plain_scale / LevelModulus(params, level);
    PV_ASSIGN_OR_RETURN(LinearTransform transform,
                        LinearTransform::Create(encoder, matrices[i], level, scale, next));
    transforms.push_back(std::move(transform));
    scale = next;
  }
  return transforms;
}

// Scale of the raised ciphertext, whose coefficients are then x = I + z / ratio, times the trace's
// factor.
double RaisedScale(const ckks::Parameters& params, int log_period) {
  return LevelModulus(params, 0) * std::ldexp(1.0, params.log_slots() - log_period);
}

}  // namespace

Result<ckks::KeyRequest> Bootstrapper::Keys(const ckks::Parameters& params,
                                            const BootstrapSpec& spec) {
  PV_RETURN_IF_ERROR(CheckSpec(params, spec));
  PV_ASSIGN_OR_RETURN(const EvalMod eval_mod, EvalMod::Create(params));
  ckks::KeyRequest request;
  request.encapsulation = true;
  int level = params.bootstrap_level();
  for (const auto& matrix : SlotsToCoeffsMatrices(params, spec))
    LinearTransform::AddKeys(request, params, matrix, level--);
  for (int r = 1 << spec.log_period; r < params.slots(); r *= 2)
    request.AddRotation(r, params.slots(), params.max_level());
  level = params.max_level();
  for (const auto& matrix : CoeffsToSlotsMatrices(params, spec))
    LinearTransform::AddKeys(request, params, matrix, level--);
  request.AddConjugation(eval_mod.input_level() + 1);
  eval_mod.AddKeys(request);
  return ckks::PlanKeys(params, request);
}

Result<Bootstrapper> Bootstrapper::Create(ckks::ParametersPtr params, const ckks::Encoder& encoder,
                                          const BootstrapSpec& spec) {
  PV_RETURN_IF_ERROR(CheckSpec(*params, spec));
  PV_ASSIGN_OR_RETURN(EvalMod eval_mod, EvalMod::Create(*params));
  Bootstrapper result(spec, encoder, std::move(eval_mod));
  const int bottom = params->bootstrap_level();
  PV_ASSIGN_OR_RETURN(result.stc_, CreateTransforms(encoder, SlotsToCoeffsMatrices(*params, spec),
                                                    bottom, params->scale(bottom),
                                                    LevelModulus(*params, 0) / kMessageRatio));
  // CtS multiplies by n' (unnormalised factors) and x + conj(x) by 2; the result is x / half_width
  // at input_scale.
  const double period = std::ldexp(1.0, spec.log_period);
  const double output_scale =
      result.eval_mod_.input_scale() / (2 * period * result.eval_mod_.half_width());
  PV_ASSIGN_OR_RETURN(
      result.cts_,
      CreateTransforms(encoder, CoeffsToSlotsMatrices(*params, spec), params->max_level(),
                       RaisedScale(*params, spec.log_period), output_scale));
  return result;
}

size_t Bootstrapper::plaintext_bytes() const {
  size_t bytes = 0;
  for (const auto& transform : stc_) bytes += transform.plaintext_bytes();
  for (const auto& transform : cts_) bytes += transform.plaintext_bytes();
  return bytes;
}

size_t Bootstrapper::permutation_bytes() const {
  size_t bytes = 0;
  for (const auto* transforms : {&stc_, &cts_})
    for (const LinearTransform& transform : *transforms) bytes += transform.permutation_bytes();
  return bytes;
}

Result<Ciphertext> Bootstrapper::AtInputLevel(const ckks::Evaluator& evaluator,
                                              const Ciphertext& x) const {
  if (x.degree() != 1) {
    return MakeError(ErrorCode::kMismatch, "bootstrap: ciphertext degree {}, expected 1",
                     x.degree());
  }
  if (x.level < input_level()) {
    return MakeError(ErrorCode::kOutOfRange, "bootstrap: ciphertext level {} < {}", x.level,
                     input_level());
  }
  const double scale = params_->scale(input_level());
  if (x.level > input_level()) return evaluator.AdjustTo(x, input_level(), scale);
  if (!ckks::SameScale(x.scale, scale)) {
    return MakeError(ErrorCode::kMismatch,
                     "bootstrap: ciphertext scale {:.10g}, expected {:.10g} at level {}", x.scale,
                     scale, x.level);
  }
  return x;
}

// Sum over the rotations by multiples of the period: kills every coefficient outside the subring of
// X^(slots/n') and multiplies those inside by slots / n'.
Status Bootstrapper::Trace(const ckks::Evaluator& evaluator, Ciphertext& x) const {
  for (int r = 1 << spec_.log_period; r < params_->slots(); r *= 2) {
    PV_ASSIGN_OR_RETURN(const Ciphertext rotated, evaluator.Rotate(x, r));
    PV_RETURN_IF_ERROR(evaluator.AddInplace(x, rotated));
  }
  return {};
}

// Rescales 2 Re or 2 Im of the last CtS product to EvalMod's input and removes the multiples of 1.
Result<Ciphertext> Bootstrapper::EvalModPart(const ckks::Evaluator& evaluator, Ciphertext x) const {
  PV_RETURN_IF_ERROR(evaluator.RescaleInplace(x));
  x.scale = eval_mod_.input_scale();
  return eval_mod_.Apply(evaluator, x);
}

// The same for packed parts [2 Re | 2 Im], put together again: [Re | i Im] and its rotation by a
// period.
Result<Ciphertext> Bootstrapper::EvalModPacked(const ckks::Evaluator& evaluator,
                                               Ciphertext x) const {
  PV_RETURN_IF_ERROR(evaluator.RescaleInplace(x));
  x.scale = eval_mod_.input_scale();
  PV_ASSIGN_OR_RETURN(Ciphertext parts, eval_mod_.ApplyMasked(evaluator, encoder_, x,
                                                              Halves(spec_, 1, Complex(0, 1))));
  PV_ASSIGN_OR_RETURN(const Ciphertext rotated, evaluator.Rotate(parts, 1 << spec_.log_period));
  PV_RETURN_IF_ERROR(evaluator.AddInplace(parts, rotated));
  return parts;
}

// The last CtS factor, then EvalMod on the real and imaginary parts that carry data. The
// conjugation comes before the rescale: its noise, several times a rounding's, would be the largest
// of the whole bootstrap.
Result<Ciphertext> Bootstrapper::RemoveMultiples(const ckks::Evaluator& evaluator,
                                                 const Ciphertext& x, BootstrapTimes& times) const {
  Timer timer;
  PV_ASSIGN_OR_RETURN(const Ciphertext y, cts_.back().ApplyWithoutRescale(evaluator, x));
  PV_ASSIGN_OR_RETURN(const Ciphertext conjugate, evaluator.Conjugate(y));
  PV_ASSIGN_OR_RETURN(Ciphertext real, evaluator.Add(y, conjugate));
  times.cts += timer.Seconds();
  timer.Reset();
  if (IsPacked(*params_, spec_)) {
    PV_ASSIGN_OR_RETURN(real, EvalModPacked(evaluator, std::move(real)));
  } else {
    PV_ASSIGN_OR_RETURN(real, EvalModPart(evaluator, std::move(real)));
    if (spec_.complex_slots) {
      PV_ASSIGN_OR_RETURN(Ciphertext imaginary, evaluator.Sub(conjugate, y));
      imaginary = evaluator.MulByI(imaginary);  // i (conj(y) - y) = 2 Im(y)
      PV_ASSIGN_OR_RETURN(imaginary, EvalModPart(evaluator, std::move(imaginary)));
      PV_RETURN_IF_ERROR(evaluator.AddInplace(real, evaluator.MulByI(imaginary)));
    }
  }
  times.eval_mod += timer.Seconds();
  return real;
}

Result<Ciphertext> Bootstrapper::Bootstrap(const ckks::Evaluator& evaluator, const Ciphertext& x,
                                           BootstrapTimes* times) const {
  BootstrapTimes unused;
  BootstrapTimes& spent = times ? *times : unused;
  Timer timer;
  auto lap = [&](double& seconds) {
    seconds += timer.Seconds();
    timer.Reset();
  };
  PV_ASSIGN_OR_RETURN(Ciphertext y, AtInputLevel(evaluator, x));
  for (const auto& transform : stc_) {
    PV_ASSIGN_OR_RETURN(y, transform.Apply(evaluator, y));
  }
  lap(spent.stc);
  PV_ASSIGN_OR_RETURN(y, evaluator.ModRaise(y));
  lap(spent.mod_raise);
  PV_RETURN_IF_ERROR(Trace(evaluator, y));
  y.scale = RaisedScale(*params_, spec_.log_period);
  lap(spent.trace);
  for (size_t i = 0; i + 1 < cts_.size(); ++i) {
    PV_ASSIGN_OR_RETURN(y, cts_[i].Apply(evaluator, y));
  }
  lap(spent.cts);
  return RemoveMultiples(evaluator, y, spent);
}

}  // namespace polyveil::circuits
