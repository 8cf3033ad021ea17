#include "circuits/bootstrap_noise.h"

#include <cmath>
#include <numbers>

#include "circuits/chebyshev_noise.h"
#include "circuits/cosine_fit.h"
#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

// The message's samples for one multiple of q0.
constexpr double kMessages[] = {-0.9, -0.7, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 0.7, 0.9};

// Multiples of q0 that ModRaise leaves: h + 1 uniform terms of variance 1/12, as good as normal.
std::vector<double> MultipleDistribution(int hamming_weight, int bound) {
  const double variance = (hamming_weight + 1) / 12.0;
  std::vector<double> probability;
  double sum = 0;
  for (int i = -bound; i <= bound; ++i)
    sum += probability.emplace_back(std::exp(-i * i / (2 * variance)));
  for (double& p : probability) p /= sum;
  return probability;
}

// EvalMod's constants, as eval_mod.cc derives them.
struct Circuit {
  explicit Circuit(const EvalMod& eval_mod)
      : fit(FitCosine(CosineFitSpec{})), fit_scale(eval_mod.fit_scale()) {
    const double step = 2 * std::numbers::pi / kMessageRatio;
    output_factor = (1 + 0.75 * step * step / 6) / (2 * step);
  }
  double Argument(int multiple, double message) const {
    return (multiple + message / kMessageRatio - 0.25) / fit.half_width;
  }
  double SystematicError(int multiple, double message) const {
    const double x = multiple + message / kMessageRatio;
    return 2 * EvaluateSine(fit, x) * output_factor - message;
  }

  CosineFit fit;
  double fit_scale = 1, output_factor = 1;
};

// The error's modulus after the double angles y -> y^2 - 2, in units of the message.
double AfterDoubleAngles(const ckks::NoiseEstimator& estimator, const Circuit& circuit, double u,
                         double error) {
  const int first = estimator.params().working_level() + circuit.fit.double_angles;
  double y = 0, scale = circuit.fit_scale;
  const double angle = std::acos(std::clamp(u, -1.0, 1.0));
  for (size_t k = 0; k < circuit.fit.coeffs.size(); k += 2)
    y += circuit.fit.coeffs[k] * std::cos(static_cast<double>(k) * angle);
  for (int i = 0; i < circuit.fit.double_angles; ++i) {
    const auto squared = estimator.SquareRescale({first - i, scale, std::abs(y), error});
    error = squared.error;
    scale = squared.scale;
    y = y * y - 2;
  }
  return error * circuit.output_factor;
}

}  // namespace

Result<BootstrapNoise> EstimateBootstrap(const ckks::NoiseEstimator& estimator,
                                         const BootstrapSpec& spec, double input_error) {
  const ckks::Parameters& params = estimator.params();
  PV_ASSIGN_OR_RETURN(const EvalMod eval_mod, EvalMod::Create(params));
  const Circuit circuit(eval_mod);
  const int bound = CosineFitSpec{}.integer_bound;
  const auto probability = MultipleDistribution(params.spec().sparse_hamming_weight, bound);
  const double cts_error = estimator.Rounding(eval_mod.input_scale());
  const double message_scale = LevelModulus(params, 0) / kMessageRatio;
  const double before = std::hypot(
      input_error, estimator.Rounding(message_scale) / std::sqrt(static_cast<double>(params.n())),
      estimator.ModRaiseCoefficient(message_scale));
  // One part of two; complex slots carry the noise of two EvalMods.
  const double part = spec.complex_slots ? 1 : std::numbers::sqrt2 / 2;

  BootstrapNoise noise;
  double variance = 0, systematic_variance = 0;
  for (int multiple = -bound; multiple <= bound; ++multiple) {
    std::vector<double> arguments;
    for (const double message : kMessages) arguments.push_back(circuit.Argument(multiple, message));
    const auto errors =
        ChebyshevErrors(estimator, eval_mod.input_level(), eval_mod.input_scale(), cts_error,
                        circuit.fit.coeffs, circuit.fit_scale, arguments);
    const double weight = probability[multiple + bound] / static_cast<double>(std::size(kMessages));
    double largest = 0, largest_systematic = 0;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const double random =
          part * std::hypot(before, AfterDoubleAngles(estimator, circuit, arguments[i], errors[i]));
      const double systematic = std::abs(circuit.SystematicError(multiple, kMessages[i]));
      variance += weight * (random * random + systematic * systematic);
      systematic_variance += weight * systematic * systematic;
      largest = std::max(largest, random);
      largest_systematic = std::max(largest_systematic, systematic);
    }
    // A part of a product of complex Gaussians is a Laplace variable: ln(count) / sqrt(2) times its
    // deviation in the worst of `count`.
    const double count = params.slots() * probability[multiple + bound];
    if (count < 1) continue;
    const double tail = std::log(std::max(2.0, count)) / std::numbers::sqrt2;
    noise.worst = std::max(noise.worst, largest_systematic + tail * largest);
  }
  noise.rms = std::sqrt(variance);
  noise.systematic = std::sqrt(systematic_variance);
  return noise;
}

}  // namespace polyveil::circuits
