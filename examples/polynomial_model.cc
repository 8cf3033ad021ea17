// A model of one's own on encrypted features: two matrices with a GELU between them, which becomes
// a polynomial on the interval that its inputs stay in.
#include <polyveil/ckks.h>

#include <cmath>
#include <cstdio>
#include <random>

using namespace polyveil;

namespace {

constexpr int kWidth = 32;
constexpr double kRange = 4;  // of the hidden values

double Gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

std::vector<double> RandomMatrix(unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, 1 / std::sqrt(double{kWidth}));
  std::vector<double> matrix(kWidth * kWidth);
  for (double& entry : matrix) entry = normal(random);
  return matrix;
}

std::vector<double> Times(const std::vector<double>& matrix, const std::vector<double>& x) {
  std::vector<double> y(kWidth);
  for (int row = 0; row < kWidth; ++row)
    for (int col = 0; col < kWidth; ++col) y[row] += matrix[row * kWidth + col] * x[col];
  return y;
}

}  // namespace

int main(int argc, char** argv) try {
  ContextOptions options;
  if (argc > 1) options.parameters = argv[1];
  options.allow_insecure = argc > 1;
  const Context context = Context::Create(options).value();

  const std::vector<double> up = RandomMatrix(1), down = RandomMatrix(2);
  const Polynomial gelu = Polynomial::Approximate(Gelu, -kRange, kRange, 15).value();
  // Levels: one a matrix, depth() the polynomial. The second matrix is made for where it stands.
  const auto first = LinearTransform::Create(context, up, kWidth).value();
  const auto second =
      LinearTransform::Create(context, down, kWidth, context.fresh_level() - 1 - gelu.depth())
          .value();

  const SecretKey secret = SecretKey::Generate(context);
  KeyNeeds needs;
  needs.transforms = {first, second};
  const Evaluator evaluator(context, secret.MakeKeys(needs).value());

  std::vector<double> x(kWidth);
  for (int i = 0; i < kWidth; ++i) x[i] = std::cos(i);
  Ciphertext y = secret.Encrypt(x).value();
  y = evaluator.Apply(first, y).value();
  y = evaluator.Evaluate(gelu, y).value();
  y = evaluator.Apply(second, y).value();
  const std::vector<Complex> found = secret.Decrypt(y, kWidth).value();

  std::vector<double> hidden = Times(up, x);
  for (double& value : hidden) {
    if (std::abs(value) > kRange) return 1;  // outside, a polynomial is no GELU
    value = Gelu(value);
  }
  const std::vector<double> expected = Times(down, hidden);
  double worst = 0;
  for (int i = 0; i < kWidth; ++i) worst = std::max(worst, std::abs(found[i] - expected[i]));
  std::printf("GELU of degree %d; largest error of %d outputs: %.2e\n", gelu.degree(), kWidth,
              worst);
  return worst < 2e-2 ? 0 : 1;
} catch (const ErrorException& e) {
  std::fprintf(stderr, "polynomial_model: %s\n", e.what());
  return 1;
}
