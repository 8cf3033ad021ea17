// Measured errors of circuits against their estimates: within a factor of 4 both ways.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numbers>

#include "circuits/bootstrap_noise.h"
#include "circuits/chebyshev.h"
#include "circuits/chebyshev_noise.h"
#include "circuits/context_test.h"

namespace polyveil::circuits {
namespace {

constexpr double kFactor = 4;

void Within(double measured, double predicted, const std::string& what) {
  EXPECT_LT(measured, kFactor * predicted) << what;
  EXPECT_GT(measured, predicted / kFactor) << what;
  fmt::print("[ {:>28} ] measured {:.2f} bits, predicted {:.2f}\n", what, -std::log2(measured),
             -std::log2(predicted));
}

double MeanSquare(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(CircuitNoise, ChebyshevOfGivenDegree) {
  TestContext context("test12");
  const ckks::Parameters& params = *context.params();
  ckks::KeyRequest request;
  request.AddRelinearization(params.working_level());
  context.MakeKeys(request);
  const ckks::NoiseEstimator estimator(params);
  const int level = params.working_level();
  const double scale = params.scale(level);
  std::mt19937_64 rng(7);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const auto u = RandomSlots(params.slots(), false, 5);
  const auto x = context.Encrypt(u, level, scale);
  std::vector<double> samples;
  for (int i = 0; i < 64; ++i) samples.push_back(u[i].real());
  for (const int degree : {1, 2, 3, 7, 15, 28, 31, 63}) {
    std::vector<double> c(degree + 1);
    for (double& v : c) v = uniform(rng);
    const auto y = EvaluateChebyshev(context.evaluator(), x, c, scale).value();
    const auto actual = context.Decrypt(y);
    double sum = 0;
    for (size_t j = 0; j < u.size(); ++j) sum += std::norm(actual[j] - Clenshaw(c, u[j].real()));
    const auto errors =
        ChebyshevErrors(estimator, level, scale, estimator.Encrypt(scale), c, scale, samples);
    Within(std::sqrt(sum / double(u.size())), MeanSquare(errors),
           "Chebyshev degree " + std::to_string(degree));
  }
}

// Chebyshev coefficients of 1/sqrt on [1, b], interpolated.
std::vector<double> InverseRoot(double b, int degree) {
  const int points = degree + 1;
  std::vector<double> c(points);
  for (int k = 0; k < points; ++k) {
    for (int j = 0; j < points; ++j) {
      const double angle = std::numbers::pi * (j + 0.5) / points;
      const double x = 0.5 * ((b - 1) * std::cos(angle) + b + 1);
      c[k] += (k == 0 ? 1.0 : 2.0) / points * std::cos(k * angle) / std::sqrt(x);
    }
  }
  return c;
}

// An argument whose scale is not the nominal one, but that divided by `rest`: what remains of the
// precision. Above 1 nothing is lost until constants of T_k's quotients are far above the scale;
// below 1 quotients lose rest^-degree.
TEST(CircuitNoise, DeclaredScaleOfAnArgument) {
  const auto params = ckks::Parameters::Create(ckks::FindParameters("decode16").value()).value();
  const ckks::NoiseEstimator estimator(*params);
  const int level = 12;
  const double scale = params->scale(level);
  std::vector<double> samples;
  for (int i = 0; i < 40; ++i) samples.push_back(-1 + 2.0 * i / 39);
  for (const auto& [degree, b] : {std::pair(31, 150.0), {63, 530.0}, {127, 4000.0}}) {
    const std::vector<double> c = InverseRoot(b, degree);
    std::map<double, double> bits;
    for (const double rest : {0.82, 0.9, 1.0, 1.05, 1.1, 1.22, 1.3}) {
      const auto errors =
          ChebyshevErrors(estimator, level, scale / rest, estimator.Rounding(scale), c,
                          params->scale(level - ChebyshevDepth(degree)), samples);
      bits[rest] = -std::log2(*std::max_element(errors.begin(), errors.end()));
      fmt::print("degree {}, rest {:.2f}: worst error 2^-{:.1f}\n", degree, rest, bits[rest]);
    }
    EXPECT_LT(bits[0.9], bits[1.0] - 0.1 * degree);
    EXPECT_GT(bits[1.1], bits[1.0] - 0.5);
    EXPECT_GT(bits[1.0], 20);
  }
}

// Uniform slots, bootstrapped; compares the root mean square and the worst part.
void CheckBootstrap(const std::string& name, const BootstrapSpec& spec) {
  auto context = std::make_unique<TestContext>(name);
  const ckks::ParametersPtr& params = context->params();
  context->MakeKeys(Bootstrapper::Keys(*params, spec).value());
  const auto bootstrapper = Bootstrapper::Create(params, context->encoder(), spec).value();
  const ckks::NoiseEstimator estimator(*params);
  const double scale = params->scale(bootstrapper.input_level());
  const auto noise = EstimateBootstrap(estimator, spec, estimator.Encrypt(scale)).value();
  const auto values = RandomSlots(size_t{1} << spec.log_period, spec.complex_slots, 3);
  const auto x = context->Encrypt(values, bootstrapper.input_level());
  const auto actual = context->Decrypt(bootstrapper.Bootstrap(context->evaluator(), x).value());
  const auto expected = Repeat(values, actual.size());
  double sum = 0;
  for (size_t j = 0; j < actual.size(); ++j) {
    const Complex error = actual[j] - expected[j];
    sum += spec.complex_slots ? std::norm(error) / 2 : error.real() * error.real();
  }
  const std::string what =
      fmt::format("{} 2^{}{}", name, spec.log_period, spec.complex_slots ? " complex" : "");
  Within(std::sqrt(sum / double(actual.size())), noise.rms, what + " rms");
  Within(WorstError(actual, expected), noise.worst, what + " worst");
}

TEST(CircuitNoise, Bootstrap) {
  CheckBootstrap("test12", {11, false});
  CheckBootstrap("test12", {7, false});
  CheckBootstrap("test12", {7, true});
  CheckBootstrap("test12", {11, true});
  CheckBootstrap("test13", {8, false});
}

// Production parameters: the estimate that the simulator uses. The worst slot is 13 bits.
TEST(CircuitNoise, SecureSizeBootstrap) {
  const auto params = ckks::Parameters::Create(ckks::FindParameters("decode16").value()).value();
  const ckks::NoiseEstimator estimator(*params);
  const auto noise = EstimateBootstrap(estimator, {7, false}, 0).value();
  EXPECT_LT(noise.worst, 0x1p-15);
  EXPECT_GT(noise.rms, noise.systematic);
  CheckBootstrap("decode16", {7, false});
}

}  // namespace
}  // namespace polyveil::circuits
