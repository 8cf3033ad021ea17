// Encrypt, multiply until no level is left, bootstrap, go on.
#include <polyveil/ckks.h>
#include <polyveil/version.h>

#include <cmath>
#include <cstdio>

using namespace polyveil;

int main(int argc, char** argv) try {
  // "full16" is the secure default; a small insecure ring makes a quick test.
  ContextOptions options;
  if (argc > 1) options.parameters = argv[1];
  options.allow_insecure = argc > 1;
  const Context context = Context::Create(options).value();
  std::printf("polyveil %s: %s\n", POLYVEIL_VERSION_STRING, context.Describe().c_str());

  const SecretKey secret = SecretKey::Generate(context);
  KeyNeeds needs;
  needs.bootstrapping = true;
  const EvaluationKeys keys = secret.MakeKeys(needs).value();
  const Evaluator evaluator(context, keys);

  // x (1 - x), again and again: the logistic map at r = 3.2 falls onto a cycle of two.
  double expected = 0.3;
  Ciphertext x = secret.Encrypt(std::vector<double>{expected}).value();
  for (int step = 1; step <= 8; ++step) {
    if (x.level() < context.bootstrap_level() + 2) {
      x = evaluator.Bootstrap(x).value();
      std::printf("bootstrapped to level %d\n", x.level());
    }
    const Ciphertext one_minus = evaluator.AddConstant(evaluator.Negate(x).value(), 1).value();
    x = evaluator.MulConstant(evaluator.Mul(x, one_minus).value(), 3.2).value();
    expected = 3.2 * expected * (1 - expected);
    const double found = secret.Decrypt(x, 1).value()[0].real();
    std::printf("step %d, level %2d: %.6f, expected %.6f\n", step, x.level(), found, expected);
    if (std::abs(found - expected) > 1e-2) return 1;
  }
  return 0;
} catch (const ErrorException& e) {
  std::fprintf(stderr, "refresh: %s\n", e.what());
  return 1;
}
