// The public handles on a small insecure ring: every operation against plain arithmetic, misuse by
// name, two contexts with threads of their own at once.
#include "polyveil/ckks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

namespace polyveil {
namespace {

// Twelve bits: what a product of a few rotated and rescaled values of order 1 keeps on this ring.
constexpr double kTolerance = 0x1p-12;

Context TestContext(int threads = 0, const std::string& parameters = "test11") {
  ContextOptions options;
  options.parameters = parameters;
  options.threads = threads;
  options.allow_insecure = true;
  return Context::Create(options).value();
}

std::vector<Complex> Values(int count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-0.7, 0.7);
  std::vector<Complex> values(static_cast<std::size_t>(count));
  for (Complex& value : values) value = {uniform(random), uniform(random)};
  return values;
}

class Ckks : public testing::Test {
 protected:
  Ckks() : context_(TestContext()), secret_(SecretKey::Generate(context_)) {
    needs_.rotations = {1, -3};
    needs_.conjugation = true;
  }

  Evaluator Make() const { return {context_, secret_.MakeKeys(needs_).value()}; }
  Ciphertext Encrypt(const std::vector<Complex>& values, int level = -1) const {
    return secret_.Encrypt(std::span<const Complex>(values), level).value();
  }
  void Expect(const Result<Ciphertext>& actual, const std::vector<Complex>& expected) const {
    ASSERT_TRUE(actual.ok()) << actual.error().message;
    const auto values = secret_.Decrypt(*actual, static_cast<int>(expected.size())).value();
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_LT(std::abs(values[i] - expected[i]), kTolerance) << "slot " << i;
  }
  template <typename Fn>
  static std::vector<Complex> Map(std::size_t count, Fn&& fn) {
    std::vector<Complex> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = fn(i);
    return out;
  }

  const Context context_;
  const SecretKey secret_;
  KeyNeeds needs_;
};

TEST_F(Ckks, ArithmeticEqualsPlainArithmetic) {
  const std::size_t n = 64;
  const auto a = Values(n, 1), b = Values(n, 2);
  const Evaluator evaluator = Make();
  const Ciphertext x = Encrypt(a), y = Encrypt(b, context_.fresh_level() - 2);
  Expect(evaluator.Add(x, y), Map(n, [&](auto i) { return a[i] + b[i]; }));
  Expect(evaluator.Sub(y, x), Map(n, [&](auto i) { return b[i] - a[i]; }));
  Expect(evaluator.Negate(x), Map(n, [&](auto i) { return -a[i]; }));
  Expect(evaluator.AddPlain(x, b), Map(n, [&](auto i) { return a[i] + b[i]; }));
  Expect(evaluator.SubPlain(x, b), Map(n, [&](auto i) { return a[i] - b[i]; }));
  std::vector<double> real(n);
  for (std::size_t i = 0; i < n; ++i) real[i] = b[i].real();
  Expect(evaluator.AddPlain(x, real), Map(n, [&](auto i) { return a[i] + real[i]; }));
  Expect(evaluator.SubPlain(x, real), Map(n, [&](auto i) { return a[i] - real[i]; }));
  Expect(evaluator.MulPlain(x, real), Map(n, [&](auto i) { return a[i] * real[i]; }));
  Expect(evaluator.AddConstant(x, {1, 2}), Map(n, [&](auto i) { return a[i] + Complex(1, 2); }));
  Expect(evaluator.Mul(x, y), Map(n, [&](auto i) { return a[i] * b[i]; }));
  Expect(evaluator.Square(x), Map(n, [&](auto i) { return a[i] * a[i]; }));
  Expect(evaluator.MulPlain(x, b), Map(n, [&](auto i) { return a[i] * b[i]; }));
  Expect(evaluator.MulConstant(x, -1.5), Map(n, [&](auto i) { return -1.5 * a[i]; }));
  Expect(evaluator.Rotate(x, 1), Map(n, [&](auto i) { return a[(i + 1) % n]; }));
  Expect(evaluator.Rotate(x, -3), Map(n, [&](auto i) { return a[(i + n - 3) % n]; }));
  Expect(evaluator.Conjugate(x), Map(n, [&](auto i) { return std::conj(a[i]); }));
  EXPECT_EQ(evaluator.Mul(x, y)->level(), y.level() - 1);
  EXPECT_EQ(evaluator.DropTo(x, 4)->level(), 4);
  Expect(evaluator.DropTo(x, 4), a);
}

TEST_F(Ckks, ProductsGoDownToTheLastLevel) {
  const Evaluator evaluator = Make();
  Complex expected = 0.9;
  Ciphertext x = Encrypt({expected});
  const Ciphertext one = Encrypt({Complex(1)});
  while (x.level() > 0) {
    x = evaluator.Mul(x, one).value();
    // Sums of values that came down by different ways.
    Expect(evaluator.Add(x, evaluator.DropTo(one, x.level()).value()), {expected + 1.0});
  }
  EXPECT_EQ(evaluator.Mul(x, one).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(evaluator.MulConstant(x, 2).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(evaluator.MulPlain(x, std::vector<Complex>{2}).error().code, ErrorCode::kOutOfRange);
}

TEST_F(Ckks, MatricesAndPolynomials) {
  const int n = 16;
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(-0.2, 0.2);
  std::vector<double> matrix(n * n);
  for (double& entry : matrix) entry = uniform(random);
  const auto a = Values(n, 4);
  const auto map = LinearTransform::Create(context_, matrix, n, 5).value();
  needs_.transforms = {map};
  const Evaluator evaluator = Make();
  Expect(evaluator.Apply(map, Encrypt(a)), Map(n, [&](auto i) {
           Complex sum = 0;
           for (int j = 0; j < n; ++j) sum += matrix[i * n + static_cast<std::size_t>(j)] * a[j];
           return sum;
         }));
  EXPECT_EQ(evaluator.Apply(map, Encrypt(a, 4)).error().code, ErrorCode::kOutOfRange);

  const auto p = Polynomial::Approximate([](double x) { return std::exp(x); }, -1, 2, 12).value();
  EXPECT_NEAR(p(0.5), std::exp(0.5), 1e-6);
  std::vector<Complex> real = a;
  for (Complex& value : real) value = value.real() * 1.3;
  const auto result = evaluator.Evaluate(p, Encrypt(real));
  Expect(result, Map(n, [&](auto i) { return Complex(p(real[i].real())); }));
  EXPECT_EQ(result->level(), context_.fresh_level() - p.depth());
  EXPECT_EQ(p.depth(), 5);
  EXPECT_EQ(evaluator.Evaluate(p, Encrypt(real, 4)).error().code, ErrorCode::kOutOfRange);
  EXPECT_FALSE(Polynomial::Approximate([](double x) { return 1 / x; }, 0, 0, 3).ok());
  EXPECT_FALSE(Polynomial::Approximate([](double) { return NAN; }, 0, 1, 3).ok());
  EXPECT_FALSE(Polynomial::Approximate([](double x) { return x; }, 0, 1, 128).ok());
}

TEST_F(Ckks, BytesAndFilesComeBack) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / "polyveil-api-XXXXXX").string();
  std::string pattern = folder;
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  ASSERT_TRUE(secret_.Write(pattern + "/key", "a passphrase").ok());
  ASSERT_TRUE(secret_.WriteKeys(pattern + "/keys", needs_).ok());
  const SecretKey again = SecretKey::Read(context_, pattern + "/key", "a passphrase").value();
  EXPECT_FALSE(SecretKey::Read(context_, pattern + "/key", "another").ok());
  const auto keys = EvaluationKeys::Read(context_, pattern + "/keys", needs_);
  ASSERT_TRUE(keys.ok()) << keys.error().message;
  const auto a = Values(8, 5);
  Bytes bytes = Encrypt(a).Serialize();
  const Ciphertext x = Ciphertext::Parse(context_, bytes).value();
  const Ciphertext y = Evaluator(context_, *keys).Rotate(x, 1).value();
  const auto values = again.Decrypt(y, 8).value();
  for (std::size_t i = 0; i < 8; ++i) EXPECT_LT(std::abs(values[i] - a[(i + 1) % 8]), kTolerance);

  KeyNeeds more = needs_;
  more.rotations.push_back(7);
  EXPECT_EQ(EvaluationKeys::Read(context_, pattern + "/keys", more).error().code,
            ErrorCode::kMismatch);
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{40}, std::size_t{156}, bytes.size() / 2}) {
    Bytes damaged = bytes;
    damaged[at] ^= 1;
    EXPECT_FALSE(Ciphertext::Parse(context_, damaged).ok()) << at;
  }
  bytes.resize(bytes.size() / 2);
  EXPECT_FALSE(Ciphertext::Parse(context_, bytes).ok());
  EXPECT_FALSE(Ciphertext::Parse(context_, {}).ok());
  std::filesystem::remove_all(pattern);
}

TEST_F(Ckks, MisuseIsAnErrorWithTheField) {
  const auto code = [](const auto& result) { return result.error().code; };
  ContextOptions options;
  options.parameters = "test11";
  EXPECT_EQ(code(Context::Create(options)), ErrorCode::kSecurity);
  options.parameters = "none";
  EXPECT_EQ(code(Context::Create(options)), ErrorCode::kNotFound);
  options = {.parameters = "test11", .threads = -1, .bootstrap_period = 0, .allow_insecure = true};
  EXPECT_EQ(code(Context::Create(options)), ErrorCode::kInvalidArgument);
  options.threads = 0;
  options.bootstrap_period = 3;
  EXPECT_EQ(code(Context::Create(options)), ErrorCode::kInvalidArgument);

  const Ciphertext x = Encrypt({Complex(0.5)});
  EXPECT_EQ(code(secret_.Encrypt(std::vector<double>(3))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(secret_.Encrypt(std::vector<double>{1}, 99)), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(secret_.Decrypt(x, 3)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Make().Rotate(x, 5)), ErrorCode::kMissingKey);
  EXPECT_EQ(code(Evaluator(context_).Mul(x, x)), ErrorCode::kMissingKey);
  EXPECT_EQ(code(Make().Bootstrap(x)), ErrorCode::kMissingKey);
  EXPECT_EQ(code(Make().DropTo(x, x.level() + 1)), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(LinearTransform::Create(context_, std::vector<double>(4), 4)),
            ErrorCode::kInvalidArgument);

  const SecretKey other = SecretKey::Generate(context_);
  const Ciphertext foreign = other.Encrypt(std::vector<double>{1}).value();
  EXPECT_EQ(code(Make().Add(x, foreign)), ErrorCode::kMismatch);
  EXPECT_EQ(code(Evaluator(context_).Add(x, foreign)), ErrorCode::kMismatch);
  EXPECT_EQ(code(secret_.Decrypt(foreign)), ErrorCode::kMismatch);
  options = {.parameters = "test10", .allow_insecure = true};
  const Context smaller = Context::Create(options).value();
  EXPECT_EQ(code(Evaluator(smaller).Negate(x)), ErrorCode::kMismatch);
  EXPECT_THROW(Evaluator(smaller).Negate(x).value(), ErrorException);
  needs_.bootstrapping = false;
  EXPECT_EQ(code(secret_.MakeKeys(needs_, [](double) { return false; })), ErrorCode::kCancelled);
}

TEST_F(Ckks, BootstrapsFromTheLowestLevel) {
  needs_.bootstrapping = true;
  const Evaluator evaluator = Make();
  std::vector<Complex> a = Values(context_.slots(), 6);
  for (Complex& value : a) value = value.real();
  const Ciphertext x = Encrypt(a, context_.bootstrap_level());
  const auto fresh = evaluator.Bootstrap(x);
  ASSERT_TRUE(fresh.ok()) << fresh.error().message;
  EXPECT_EQ(fresh->level(), context_.fresh_level());
  const auto values = secret_.Decrypt(*fresh).value();
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_LT(std::abs(values[i] - a[i]), 0x1p-9);
  EXPECT_EQ(evaluator.Bootstrap(Encrypt(a, context_.bootstrap_level() - 1)).error().code,
            ErrorCode::kOutOfRange);
}

// Parameters and threads of their own: none waits for another's, all come out.
TEST(Contexts, RunBesideEachOther) {
  const auto run = [](int threads, const char* parameters) {
    const Context context = TestContext(threads, parameters);
    const SecretKey secret = SecretKey::Generate(context);
    const Evaluator evaluator(context, secret.MakeKeys({}).value());
    double expected = 0.9;
    Ciphertext x = secret.Encrypt(std::vector<double>{expected}).value();
    while (x.level() > 1) {
      x = evaluator.Square(x).value();
      expected *= expected;
      if (expected < 1e-3) break;
    }
    EXPECT_NEAR(secret.Decrypt(x, 1).value()[0].real(), expected, kTolerance);
  };
  std::vector<std::thread> all;
  for (const int threads : {1, 3, 0})
    for (const char* parameters : {"test10", "test11"}) all.emplace_back(run, threads, parameters);
  for (std::thread& each : all) each.join();
}

}  // namespace
}  // namespace polyveil
