// A private dot product: one party has a vector under its key, another has weights and computes
// sum w_i x_i without seeing x. What passes between them are bytes.
#include <polyveil/ckks.h>

#include <cmath>
#include <cstdio>

using namespace polyveil;

namespace {

constexpr int kSize = 1024;

KeyNeeds RotationsOfASum() {
  KeyNeeds needs;
  for (int step = 1; step < kSize; step *= 2) needs.rotations.push_back(step);
  return needs;
}

// The party with the weights. It has the context, public keys and a ciphertext.
Bytes Compute(const Context& context, const EvaluationKeys& keys, const Bytes& request,
              const std::vector<Complex>& weights) {
  const Evaluator evaluator(context, keys);
  const Ciphertext x = Ciphertext::Parse(context, request).value();
  Ciphertext sum = evaluator.MulPlain(x, weights).value();
  for (int step = 1; step < kSize; step *= 2)
    sum = evaluator.Add(sum, evaluator.Rotate(sum, step).value()).value();
  // One level left is enough to be read, and makes the answer small.
  return evaluator.DropTo(sum, 1).value().Serialize();
}

}  // namespace

int main(int argc, char** argv) try {
  ContextOptions options;
  if (argc > 1) options.parameters = argv[1];
  options.allow_insecure = argc > 1;
  const Context context = Context::Create(options).value();
  const SecretKey secret = SecretKey::Generate(context);
  const EvaluationKeys keys = secret.MakeKeys(RotationsOfASum()).value();

  std::vector<double> x(kSize);
  std::vector<Complex> weights(kSize);
  double expected = 0;
  for (int i = 0; i < kSize; ++i) {
    x[i] = std::sin(i);
    weights[i] = std::cos(0.5 * i) / kSize;
    expected += x[i] * weights[i].real();
  }
  const Bytes request = secret.Encrypt(x, 2).value().Serialize();
  const Bytes answer = Compute(context, keys, request, weights);
  const double found =
      secret.Decrypt(Ciphertext::Parse(context, answer).value(), 1).value()[0].real();
  std::printf("%zu bytes up, %zu down, %zu of keys: %.8f, expected %.8f\n", request.size(),
              answer.size(), keys.bytes(), found, expected);
  return std::abs(found - expected) < 1e-4 ? 0 : 1;
} catch (const ErrorException& e) {
  std::fprintf(stderr, "private_dot_product: %s\n", e.what());
  return 1;
}
