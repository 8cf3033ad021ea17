#include "circuits/bootstrapper.h"

#include <algorithm>
#include <cmath>

#include "base/system.h"
#include "circuits/level_modulus.h"
#include "ckks/key_plan.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;
using ckks::ExtendedCiphertext;
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
  // A factor of the Fourier transform has 2^stages diagonals.
  constexpr int kMaxStages = 13;
  const int levels = std::min(params.LevelsWithRole(LevelRole::kSlotsToCoeffs),
                              params.LevelsWithRole(LevelRole::kCoeffsToSlots));
  if (spec.log_period > kMaxStages * levels) {
    return MakeError(ErrorCode::kOutOfRange,
                     "bootstrap: slots of period 2^{} in {} levels of a Fourier transform, "
                     "parameters {} hold 2^{} at most",
                     spec.log_period, levels, params.spec().name, kMaxStages * levels);
  }
  return {};
}

// Rotations whose doublings x += rotate(x, r) sum over all multiples of the output's period, in
// groups that one hoisted sum does: r and 2r together are x + rotate(x, r) + rotate(x, 2r) +
// rotate(x, 3r). Three keys instead of two for two thirds of the time.
std::vector<std::vector<int>> TraceGroups(const ckks::Parameters& params,
                                          const BootstrapShape& shape) {
  std::vector<std::vector<int>> groups;
  int log_rotation = shape.log_output_period();
  if ((params.log_slots() - log_rotation) % 2 == 1) groups.push_back({1 << log_rotation++});
  for (; log_rotation < params.log_slots(); log_rotation += 2)
    groups.push_back({1 << log_rotation, 2 << log_rotation, 3 << log_rotation});
  return groups;
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

}  // namespace

Result<ckks::KeyRequest> Bootstrapper::Keys(const ckks::Parameters& params,
                                            const BootstrapSpec& spec) {
  PV_RETURN_IF_ERROR(CheckSpec(params, spec));
  PV_ASSIGN_OR_RETURN(const EvalMod eval_mod, EvalMod::Create(params));
  ckks::KeyRequest request;
  request.encapsulation = true;
  int level = params.bootstrap_level();
  const BootstrapShape shape = ShapeOf(params, spec);
  if (shape.folds(spec)) request.AddConjugation(level);
  for (const auto& matrix : SlotsToCoeffsMatrices(params, spec))
    LinearTransform::AddKeys(request, params, matrix, level--);
  level = params.max_level();
  for (const auto& matrix : CoeffsToSlotsMatrices(params, spec))
    LinearTransform::AddKeys(request, params, matrix, level--);
  const int last_cts = eval_mod.input_level() + 1;
  if (shape.packed) {
    request.AddRotation(shape.transform_size(), params.slots(),
                        std::min(last_cts + 1, params.max_level()));
  }
  for (const auto& group : TraceGroups(params, shape))
    for (const int rotation : group) request.AddRotation(rotation, params.slots(), last_cts);
  request.AddConjugation(last_cts);
  eval_mod.AddKeys(request);
  return ckks::PlanKeys(params, request);
}

Result<Bootstrapper> Bootstrapper::Create(ckks::ParametersPtr params, const ckks::Encoder& encoder,
                                          const BootstrapSpec& spec) {
  PV_RETURN_IF_ERROR(CheckSpec(*params, spec));
  PV_ASSIGN_OR_RETURN(EvalMod eval_mod, EvalMod::Create(*params));
  Bootstrapper result(spec, encoder, std::move(eval_mod));
  const int bottom = params->bootstrap_level();
  PV_ASSIGN_OR_RETURN(result.stc_,
                      CreateTransforms(encoder, SlotsToCoeffsMatrices(*params, spec), bottom,
                                       (result.shape_.folds(spec) ? 2 : 1) * params->scale(bottom),
                                       LevelModulus(*params, 0) / kMessageRatio));
  // CtS multiplies by the transform's size (unnormalised factors), the trace by the number of
  // transforms in all slots and x + conj(x) by 2; the result is x / half_width at input_scale.
  const double output_scale =
      result.eval_mod_.input_scale() / (2.0 * params->slots() * result.eval_mod_.half_width());
  PV_ASSIGN_OR_RETURN(
      result.cts_, CreateTransforms(encoder, CoeffsToSlotsMatrices(*params, spec),
                                    params->max_level(), LevelModulus(*params, 0), output_scale));
  return result;
}

size_t Bootstrapper::plaintext_bytes() const {
  size_t bytes = 0;
  for (const auto& transform : stc_) bytes += transform.plaintext_bytes();
  for (const auto& transform : cts_) bytes += transform.plaintext_bytes();
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

// x at the input level, as the first factor of SlotsToCoeffs reads it: real parts only where halves
// are folded.
Result<Ciphertext> Bootstrapper::Prepare(const ckks::Evaluator& evaluator,
                                         const Ciphertext& x) const {
  PV_ASSIGN_OR_RETURN(Ciphertext y, AtInputLevel(evaluator, x));
  if (!shape_.folds(spec_)) return y;
  PV_ASSIGN_OR_RETURN(const Ciphertext conjugate, evaluator.Conjugate(y));
  PV_RETURN_IF_ERROR(evaluator.AddInplace(y, conjugate));
  y.scale *= 2;
  return y;
}

// Sum over the rotations by multiples of the period: kills every coefficient outside the subring
// that holds the data.
Status Bootstrapper::Trace(const ckks::Evaluator& evaluator, ExtendedCiphertext& x) const {
  for (const auto& group : TraceGroups(*params_, shape_)) {
    PV_ASSIGN_OR_RETURN(x, evaluator.AddRotations(std::move(x), group));
  }
  return {};
}

// Rescales a part of the last CtS product to EvalMod's input.
Result<Ciphertext> Bootstrapper::Rescale(const ckks::Evaluator& evaluator,
                                         const ExtendedCiphertext& x) const {
  PV_ASSIGN_OR_RETURN(Ciphertext y, evaluator.ModDownRescale(x));
  y.scale = eval_mod_.input_scale();
  return y;
}

// The same for packed parts [2 Re | 2 Im], put together again: [Re | i Im] and its rotation by a
// period.
Result<Ciphertext> Bootstrapper::EvalModPacked(const ckks::Evaluator& evaluator,
                                               const Ciphertext& x) const {
  PV_ASSIGN_OR_RETURN(Ciphertext parts, eval_mod_.ApplyMasked(evaluator, encoder_, x,
                                                              Halves(shape_, 1, Complex(0, 1))));
  PV_ASSIGN_OR_RETURN(const Ciphertext rotated, evaluator.Rotate(parts, shape_.transform_size()));
  PV_RETURN_IF_ERROR(evaluator.AddInplace(parts, rotated));
  return parts;
}

// The factors of CoeffsToSlots, the last one without its rescale: key switches follow, whose noise,
// several times a rounding's, would else be the largest of the whole bootstrap.
Result<ExtendedCiphertext> Bootstrapper::CoeffsToSlots(const ckks::Evaluator& evaluator,
                                                       Ciphertext y, BootstrapTimes& times) const {
  Timer timer;
  const int rotation = shape_.transform_size();
  // Rows of the last factor of packed parts differ between the halves: its input needs the
  // transform's period. What stands before it commutes with that rotation.
  if (shape_.packed && cts_.size() == 1) {
    PV_ASSIGN_OR_RETURN(const ExtendedCiphertext sum,
                        evaluator.AddRotations(evaluator.Extend(y), {&rotation, 1}));
    y = evaluator.ModDown(sum);
    times.trace += timer.Lap();
  }
  for (size_t i = 0; i + 1 < cts_.size(); ++i) {
    PV_ASSIGN_OR_RETURN(ExtendedCiphertext sum, cts_[i].Sum(evaluator, y));
    times.cts += timer.Lap();
    if (shape_.packed && i + 2 == cts_.size()) {
      PV_ASSIGN_OR_RETURN(sum, evaluator.AddRotations(std::move(sum), {&rotation, 1}));
      times.trace += timer.Lap();
    }
    PV_ASSIGN_OR_RETURN(y, cts_[i].Finish(evaluator, sum));
  }
  PV_ASSIGN_OR_RETURN(ExtendedCiphertext sum, cts_.back().Sum(evaluator, y));
  times.cts += timer.Lap();
  return sum;
}

// Both parts of full complex slots, one EvalMod each.
Result<Ciphertext> Bootstrapper::EvalModBoth(const ckks::Evaluator& evaluator,
                                             const ExtendedCiphertext& y) const {
  PV_ASSIGN_OR_RETURN(const ExtendedCiphertext twice_real, evaluator.AddConjugate(y));
  PV_ASSIGN_OR_RETURN(Ciphertext real, Rescale(evaluator, twice_real));
  // 2 i Im(y) = 2 y - 2 Re(y)
  PV_ASSIGN_OR_RETURN(Ciphertext imaginary, Rescale(evaluator, y));
  PV_RETURN_IF_ERROR(evaluator.AddInplace(imaginary, imaginary));
  PV_ASSIGN_OR_RETURN(imaginary, evaluator.Sub(real, imaginary));
  imaginary = evaluator.MulByI(imaginary);  // i (2 Re(y) - 2 y) = 2 Im(y)
  PV_ASSIGN_OR_RETURN(real, eval_mod_.Apply(evaluator, real));
  PV_ASSIGN_OR_RETURN(imaginary, eval_mod_.Apply(evaluator, imaginary));
  PV_RETURN_IF_ERROR(evaluator.AddInplace(real, evaluator.MulByI(imaginary)));
  return real;
}

// EvalMod on the parts of y that carry data.
Result<Ciphertext> Bootstrapper::RemoveMultiples(const ckks::Evaluator& evaluator,
                                                 const ExtendedCiphertext& y,
                                                 BootstrapTimes& times) const {
  Timer timer;
  if (spec_.complex_slots && !shape_.packed) {
    PV_ASSIGN_OR_RETURN(Ciphertext both, EvalModBoth(evaluator, y));
    times.eval_mod += timer.Lap();
    return both;
  }
  PV_ASSIGN_OR_RETURN(const ExtendedCiphertext twice_real, evaluator.AddConjugate(y));
  PV_ASSIGN_OR_RETURN(const Ciphertext real, Rescale(evaluator, twice_real));
  times.cts += timer.Lap();
  PV_ASSIGN_OR_RETURN(Ciphertext result, spec_.complex_slots ? EvalModPacked(evaluator, real)
                                                             : eval_mod_.Apply(evaluator, real));
  times.eval_mod += timer.Lap();
  return result;
}

Result<Ciphertext> Bootstrapper::Bootstrap(const ckks::Evaluator& evaluator, const Ciphertext& x,
                                           BootstrapTimes* times) const {
  return BootstrapSmall(evaluator, x, 0, times);
}

Result<Ciphertext> Bootstrapper::BootstrapSmall(const ckks::Evaluator& evaluator,
                                                const Ciphertext& x, int log_gain,
                                                BootstrapTimes* times) const {
  if (log_gain < 0 || log_gain > kMaxLogGain) {
    return MakeError(ErrorCode::kInvalidArgument, "bootstrap: log_gain = {}, expected 0..{}",
                     log_gain, kMaxLogGain);
  }
  BootstrapTimes unused;
  BootstrapTimes& spent = times ? *times : unused;
  Timer timer;
  PV_ASSIGN_OR_RETURN(Ciphertext y, Prepare(evaluator, x));
  for (const auto& transform : stc_) {
    PV_ASSIGN_OR_RETURN(y, transform.Apply(evaluator, y));
  }
  if (log_gain > 0) y = evaluator.MulInteger(y, i64{1} << log_gain);
  spent.stc += timer.Lap();
  PV_ASSIGN_OR_RETURN(y, evaluator.ModRaise(y));
  y.scale = LevelModulus(*params_, 0);  // of x = I + z / ratio
  spent.mod_raise += timer.Lap();
  PV_ASSIGN_OR_RETURN(ExtendedCiphertext sum, CoeffsToSlots(evaluator, std::move(y), spent));
  timer.Reset();
  PV_RETURN_IF_ERROR(Trace(evaluator, sum));
  spent.trace += timer.Lap();
  PV_ASSIGN_OR_RETURN(Ciphertext result, RemoveMultiples(evaluator, sum, spent));
  result.scale = std::ldexp(result.scale, log_gain);
  return result;
}

// The mean over the periods in all slots, with the keys of the trace: what errors differ between
// them is gone, so that all that is left can be bootstrapped.
Result<Ciphertext> Bootstrapper::MeanOfPeriods(const ckks::Evaluator& evaluator,
                                               const Ciphertext& x) const {
  if (spec_.log_period == params_->log_slots()) return x;
  ExtendedCiphertext sum = evaluator.Extend(x, eval_mod_.input_level() + 1);
  if (shape_.log_output_period() > spec_.log_period) {
    const int rotation = shape_.transform_size();
    PV_ASSIGN_OR_RETURN(sum, evaluator.AddRotations(std::move(sum), {&rotation, 1}));
  }
  PV_RETURN_IF_ERROR(Trace(evaluator, sum));
  Ciphertext mean = evaluator.ModDown(sum);
  mean.scale = std::ldexp(x.scale, params_->log_slots() - spec_.log_period);
  return mean;
}

Result<Ciphertext> Bootstrapper::BootstrapTwice(const ckks::Evaluator& evaluator,
                                                const Ciphertext& x, BootstrapTimes* times) const {
  constexpr int kLogGain = 12;  // the first bootstrap's worst slot has more bits by a safe distance
  PV_ASSIGN_OR_RETURN(Ciphertext rest, AtInputLevel(evaluator, x));
  PV_ASSIGN_OR_RETURN(Ciphertext result, Bootstrap(evaluator, rest, times));
  PV_ASSIGN_OR_RETURN(result, MeanOfPeriods(evaluator, result));
  PV_ASSIGN_OR_RETURN(const Ciphertext lowered, AtInputLevel(evaluator, result));
  PV_RETURN_IF_ERROR(evaluator.SubInplace(rest, lowered));
  PV_ASSIGN_OR_RETURN(rest, BootstrapSmall(evaluator, rest, kLogGain, times));
  const double scale =
      std::max(rest.scale, result.scale);  // both are powers of two times the output's
  for (Ciphertext* part : {&rest, &result}) {
    *part = evaluator.MulInteger(*part, std::llround(scale / part->scale));
    part->scale = scale;
  }
  PV_RETURN_IF_ERROR(evaluator.AddInplace(result, rest));
  return evaluator.AdjustTo(result, output_level() - 1, params_->scale(output_level() - 1));
}

}  // namespace polyveil::circuits
