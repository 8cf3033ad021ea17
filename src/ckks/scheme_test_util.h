// A client and an evaluator in one place, for tests only.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/seeded.h"

namespace polyveil::ckks {

using Slots = std::vector<Complex>;

struct Scheme {
  explicit Scheme(const std::string& name, const KeyRequest& request = {})
      : Scheme(FindParameters(name).value(), request) {}
  Scheme(const ParametersSpec& spec, const KeyRequest& request)
      : params(Parameters::Create(spec).value()),
        key(SecretKey::Generate(params)),
        keys(KeyGenerator(key).Generate(request).value()),
        encoder(params),
        evaluator(params, &keys) {}

  Ciphertext Encrypt(const Slots& values, int level, double scale) const {
    const Plaintext plaintext = encoder.Encode(values, level, scale).value();
    return Expand(*params, Encryptor(key).Encrypt(plaintext)).value();
  }
  Ciphertext Encrypt(const Slots& values, int level) const {
    return Encrypt(values, level, params->scale(level));
  }
  Slots Decrypt(const Ciphertext& a, int count = 0) const {
    return encoder.Decode(Decryptor(key).Decrypt(a), count ? count : params->slots());
  }

  ParametersPtr params;
  SecretKey key;
  EvaluationKeys keys;
  Encoder encoder;
  Evaluator evaluator;
};

// Uniform in the square |re|, |im| <= bound.
inline Slots RandomSlots(size_t count, unsigned seed, double bound = 1) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-bound, bound);
  Slots values(count);
  for (Complex& value : values) {
    const double re = uniform(random);
    value = {re, uniform(random)};
  }
  return values;
}

// The largest |a_j - b_j|, b read periodically.
inline double MaxError(const Slots& a, const Slots& b) {
  double worst = 0;
  for (size_t j = 0; j < a.size(); ++j) worst = std::max(worst, std::abs(a[j] - b[j % b.size()]));
  return worst;
}

// Worst slot of an error with independent coefficients of standard deviation `coefficient`: slots
// are sums of N terms, so sqrt(N) larger. An error that is itself a product of random polynomials
// (a rounding times s, a digit times key noise) has slots that are products of two Gaussians, with
// tail exp(-2 t): t = 16 leaves 2^-34 over 2^12 slots. A sum alone has exp(-t^2): t = 6.5.
inline constexpr double kProductTail = 16, kGaussianTail = 6.5;
inline double WorstSlot(const Parameters& params, double coefficient, double scale,
                        double tail = kProductTail) {
  return tail * coefficient * std::sqrt(static_cast<double>(params.n())) / scale;
}

// Standard deviations per coefficient of the scheme's noises (ternary dense secret of variance
// 2/3).
inline double FreshNoise() { return 3.2; }
inline double RoundingNoise(const Parameters& params) {
  return std::sqrt((1 + params.n() * 2.0 / 3) / 12);
}
// Key switching: each of the digits is uniform below D / 2 <= P / 2 and meets one noise polynomial,
// then ModDown rounds. The key is one of the highest level unless said.
inline double KeySwitchNoise(const Parameters& params, int level, int key_level = -1) {
  const int special = params.special_primes(key_level < 0 ? params.max_level() : key_level);
  const double digits = params.digits(level, special);
  const double products = 3.2 * std::sqrt(digits * params.n() / 12.0);
  return std::hypot(products, RoundingNoise(params));
}

// ModRaise: two switches of c1 < q0, with P' and p_0 that may be below it, and their roundings.
inline double ModRaiseNoise(const Parameters& params) {
  const double q0 = static_cast<double>(params.q(0).q);
  const double growth =
      std::hypot(q0 / static_cast<double>(params.encapsulation_table().modulus().q),
                 q0 / static_cast<double>(params.p(0).q));
  const double products = 3.2 * std::sqrt(params.n() / 12.0) * growth;
  return std::hypot(products, RoundingNoise(params), RoundingNoise(params));
}

}  // namespace polyveil::ckks
