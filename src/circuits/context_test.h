// Keys and shorthands for the tests of this folder; not part of the library.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "circuits/diagonal_matrix.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/evaluator.h"

namespace polyveil::circuits {

inline std::vector<Complex> RandomSlots(size_t count, bool complex_slots, u64 seed) {
  std::mt19937_64 rng(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<Complex> values(count);
  for (Complex& v : values) v = Complex(uniform(rng), complex_slots ? uniform(rng) : 0);
  return values;
}

// Largest error of a real or imaginary part.
inline double WorstError(std::span<const Complex> a, std::span<const Complex> b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const Complex d = a[i] - b[i];
    worst = std::max({worst, std::fabs(d.real()), std::fabs(d.imag())});
  }
  return worst;
}

// sum_k c_k T_k(u).
inline double Clenshaw(std::span<const double> c, double u) {
  double b1 = 0, b2 = 0;
  for (size_t k = c.size(); k-- > 1;) b2 = std::exchange(b1, c[k] + 2 * u * b1 - b2);
  return c[0] + u * b1 - b2;
}

class TestContext {
 public:
  explicit TestContext(const std::string& name)
      : params_(ckks::Parameters::Create(ckks::FindParameters(name).value()).value()),
        encoder_(params_),
        secret_(ckks::SecretKey::FromSeed(params_, Seed{1, 2, 3})),
        evaluator_(params_, &keys_) {}

  void MakeKeys(const ckks::KeyRequest& request) {
    keys_ = ckks::KeyGenerator(secret_).Generate(request).value();
  }

  const ckks::ParametersPtr& params() const { return params_; }
  const ckks::Encoder& encoder() const { return encoder_; }
  const ckks::Evaluator& evaluator() const { return evaluator_; }
  ckks::EvaluationKeys& keys() { return keys_; }

  ckks::Ciphertext Encrypt(std::span<const Complex> values, int level, double scale) const {
    const auto plain = encoder_.Encode(values, level, scale).value();
    return ckks::Expand(*params_, ckks::Encryptor(secret_).Encrypt(plain)).value();
  }
  ckks::Ciphertext Encrypt(std::span<const Complex> values, int level) const {
    return Encrypt(values, level, params_->scale(level));
  }
  // All slots, so that a broken period shows.
  std::vector<Complex> Decrypt(const ckks::Ciphertext& ct) const {
    return encoder_.Decode(ckks::Decryptor(secret_).Decrypt(ct), params_->slots());
  }

  // Worst slot of a fresh rounding or key-switching error of one operation, at scale 1:
  // coefficients of variance (1 + 2N/3) / 12 (the rounding of c1 meets a dense ternary secret), 6
  // sigma over N such sums.
  double OperationNoise() const {
    const double n = params_->n();
    return 6 * std::sqrt(n * (1 + 2 * n / 3) / 12);
  }

 private:
  ckks::ParametersPtr params_;
  ckks::Encoder encoder_;
  ckks::SecretKey secret_;
  ckks::EvaluationKeys keys_;
  ckks::Evaluator evaluator_;
};

// The periodic repetition of a vector over all slots.
inline std::vector<Complex> Repeat(std::span<const Complex> values, size_t slots) {
  std::vector<Complex> all(slots);
  for (size_t j = 0; j < slots; ++j) all[j] = values[j % values.size()];
  return all;
}

}  // namespace polyveil::circuits
