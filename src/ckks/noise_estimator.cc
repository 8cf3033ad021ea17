#include "ckks/noise_estimator.h"

#include <cmath>
#include <numbers>

namespace polyveil::ckks {
namespace {

constexpr double kSigma = 3.2;              // of every Gaussian sample
constexpr double kSecretVariance = 2.0 / 3; // dense ternary
constexpr double kUniform = 1.0 / 12;       // variance of a rounding to an integer

double Log2Product(const Parameters& params, int begin, int end) {
  double sum = 0;
  for (int j = begin; j < end; ++j) sum += std::log2(static_cast<double>(params.q(j).q));
  return sum;
}

// sum_i (D_i / P)^2 over the digits of a ciphertext at this level, P of `special` primes.
double SumOfDigitRatios(const Parameters& params, int level, int special) {
  double log_p = 0, sum = 0;
  for (int j = 0; j < special; ++j) log_p += std::log2(static_cast<double>(params.p(j).q));
  for (int i = 0; i < params.digits(level, special); ++i) {
    const double log_d =
        Log2Product(params, params.digit_begin(special, i), params.digit_end(level, special, i));
    sum += std::exp2(2 * (log_d - log_p));
  }
  return sum;
}

}  // namespace

double NoiseEstimator::Slot(double coefficient, double scale) const {
  return std::sqrt(static_cast<double>(params_->n())) * coefficient / scale;
}

double NoiseEstimator::Modulus(int level) const {
  double product = 1;
  for (const int index : params_->level(level).primes)
    product *= static_cast<double>(params_->q(index).q);
  return product;
}

double NoiseEstimator::Encode(double scale, int log_period) const {
  const int log_coefficients = log_period < 0 ? params_->log_n() : log_period + 1;
  return std::sqrt(std::ldexp(kUniform, log_coefficients)) / scale;
}

double NoiseEstimator::Encrypt(double scale) const {
  return std::hypot(Slot(kSigma, scale), Encode(scale));
}

double NoiseEstimator::Rounding(double scale) const {
  return Slot(std::sqrt(kUniform * (1 + params_->n() * kSecretVariance)), scale);
}

double NoiseEstimator::KeyProducts(int level, double scale, int count) const {
  const int special = params_->special_primes(key_level_ < 0 ? level : key_level_);
  const double ratios = SumOfDigitRatios(*params_, level, special);
  const double variance = kUniform * params_->n() * ratios * count;
  return Slot(kSigma * std::sqrt(variance), scale);
}

double NoiseEstimator::KeySwitch(int level, double scale) const {
  return std::hypot(KeyProducts(level, scale), Rounding(scale));
}

double NoiseEstimator::ModRaiseCoefficient(double scale) const {
  const double q0 = static_cast<double>(params_->q(0).q), n = params_->n();
  const double to_sparse = q0 / static_cast<double>(params_->encapsulation_table().modulus().q);
  const double to_dense = q0 / static_cast<double>(params_->p(0).q);
  const double products =
      kSigma * kSigma * n * kUniform * (to_sparse * to_sparse + to_dense * to_dense);
  const double roundings =
      kUniform * (2 + params_->spec().sparse_hamming_weight + n * kSecretVariance);
  return std::sqrt(products + roundings) / scale;
}

NoisyValue NoiseEstimator::Encrypted(int level, double scale, double rms) const {
  return {level, scale, rms, Encrypt(scale)};
}

NoisyValue NoiseEstimator::Add(const NoisyValue& a, const NoisyValue& b) const {
  return {a.level, a.scale, std::hypot(a.rms, b.rms), std::hypot(a.error, b.error)};
}

NoisyValue NoiseEstimator::MulPlain(const NoisyValue& a, double plain_rms,
                                    double plain_scale) const {
  const double error = std::hypot(a.error * plain_rms, a.rms * Encode(plain_scale));
  return {a.level, a.scale * plain_scale, a.rms * plain_rms, error};
}

NoisyValue NoiseEstimator::MulConstant(const NoisyValue& a, double value,
                                       double constant_scale) const {
  const double rounded = std::round(value * constant_scale) / constant_scale;
  const double error = std::hypot(a.error * value, a.rms * (rounded - value));
  return {a.level, a.scale * constant_scale, a.rms * std::abs(value), error};
}

NoisyValue NoiseEstimator::Product(const NoisyValue& a, const NoisyValue& b, double error) const {
  const int level = std::min(a.level, b.level);
  const double scale = a.scale * b.scale;
  return {level, scale, a.rms * b.rms, std::hypot(error, KeyProducts(level, scale))};
}

NoisyValue NoiseEstimator::Mul(const NoisyValue& a, const NoisyValue& b) const {
  NoisyValue result = Product(a, b, std::hypot(a.error * b.rms, b.error * a.rms));
  result.error = std::hypot(result.error, Rounding(result.scale));
  return result;
}

NoisyValue NoiseEstimator::MulRescale(const NoisyValue& a, const NoisyValue& b) const {
  return Rescale(Product(a, b, std::hypot(a.error * b.rms, b.error * a.rms)));
}

NoisyValue NoiseEstimator::SquareRescale(const NoisyValue& a) const {
  return Rescale(Product(a, a, 2 * a.error * a.rms));
}

NoisyValue NoiseEstimator::Rescale(const NoisyValue& a) const {
  const double scale = a.scale / Modulus(a.level);
  return {a.level - 1, scale, a.rms, std::hypot(a.error, Rounding(scale))};
}

NoisyValue NoiseEstimator::AdjustTo(const NoisyValue& a, int level, double scale) const {
  if (level == a.level) return {level, scale, a.rms, a.error};
  const double factor = scale * Modulus(level + 1) / a.scale;
  const double relative = std::abs(std::round(factor) - factor) / factor;
  const double error = std::hypot(a.error, a.rms * relative, Rounding(scale));
  return {level, scale, a.rms, error};
}

NoisyValue NoiseEstimator::Rotate(const NoisyValue& a) const {
  return {a.level, a.scale, a.rms, std::hypot(a.error, KeySwitch(a.level, a.scale))};
}

NoisyValue NoiseEstimator::SumOfHoistedRotations(const NoisyValue& a, int count) const {
  const double root = std::sqrt(static_cast<double>(count));
  const double error = std::hypot(a.error * root, KeyProducts(a.level, a.scale, count),
                                  Rounding(a.scale));
  return {a.level, a.scale, a.rms * root, error};
}

double NoiseEstimator::Worst(double error, double slots, NoiseTail tail) {
  const double log_slots = std::log(std::max(slots, 2.0));
  if (tail == NoiseTail::kGaussian) return error * std::sqrt(log_slots);
  // P(|x| > t) = 2 t K_1(2 t) ~ sqrt(pi t) exp(-2 t), set to 1 / slots.
  double t = 1;
  for (int i = 0; i < 20; ++i) t = (log_slots + std::log(std::numbers::pi * t) / 2) / 2;
  return error * t;
}

}  // namespace polyveil::ckks
