// Element-wise operations, products, levels: homomorphism at boundary sizes, noise against bounds.
#include "ckks/evaluator.h"

#include "ckks/scheme_test_util.h"

namespace polyveil::ckks {
namespace {

KeyRequest WithRelinearization(const std::string& name) {
  KeyRequest request;
  request.AddRelinearization(Parameters::Create(FindParameters(name).value()).value()->max_level());
  return request;
}

class EvaluatorTest : public testing::TestWithParam<std::string> {
 protected:
  static const Scheme& Get(const std::string& name) {
    static std::map<std::string, std::unique_ptr<Scheme>> schemes;
    auto& scheme = schemes[name];
    if (!scheme) scheme = std::make_unique<Scheme>(name, WithRelinearization(name));
    return *scheme;
  }
  EvaluatorTest()
      : s(Get(GetParam())),
        params(*s.params),
        a(RandomSlots(params.slots(), 1)),
        b(RandomSlots(params.slots(), 2)) {}

  std::vector<int> Levels() const { return {0, 1, params.working_level(), params.max_level()}; }
  template <typename Fn>
  Slots Each(Fn&& fn) const {
    Slots result(a.size());
    for (size_t j = 0; j < a.size(); ++j) result[j] = fn(a[j], b[j]);
    return result;
  }

  const Scheme& s;
  const Parameters& params;
  const Slots a, b;
};

TEST_P(EvaluatorTest, EncryptNoiseWithinBound) {
  for (const int level : Levels()) {
    const double scale = 0x1p40;
    EXPECT_LT(MaxError(s.Decrypt(s.Encrypt(a, level, scale)), a),
              WorstSlot(params, std::hypot(FreshNoise(), 0.3), scale, kGaussianTail) + 1e-11);
  }
}

TEST_P(EvaluatorTest, RelinearizeRescaleManyEqualsSingleOperations) {
  const auto& e = s.evaluator;
  for (const int level : {1, params.max_level()}) {
    const Ciphertext x = s.Encrypt(a, level, 0x1p40), y = s.Encrypt(b, level, 0x1p39);
    const Ciphertext products[] = {e.MulNoRelin(x, y).value(), e.SquareNoRelin(y).value()};
    const Ciphertext* const pointers[] = {&products[0], &products[1]};
    const auto batch = e.RelinearizeRescaleMany(pointers).value();
    for (size_t k = 0; k < 2; ++k) {
      const Ciphertext one = e.RelinearizeRescale(products[k]).value();
      EXPECT_EQ(batch[k].scale, one.scale);
      EXPECT_EQ(batch[k].level, one.level);
      for (size_t part = 0; part < 2; ++part)
        for (size_t j = 0; j < one.parts[part].limbs(); ++j)
          EXPECT_TRUE(std::ranges::equal(batch[k].parts[part].limb(j), one.parts[part].limb(j)));
    }
    const Ciphertext* const mixed[] = {&products[0], &x};
    EXPECT_EQ(e.RelinearizeRescaleMany(mixed).error().code, ErrorCode::kMismatch);
  }
}

TEST_P(EvaluatorTest, AddSubNegate) {
  for (const int level : Levels()) {
    const double scale = 0x1p40;
    const Ciphertext x = s.Encrypt(a, level, scale), y = s.Encrypt(b, level, scale);
    const double bound = WorstSlot(params, 2 * FreshNoise(), scale) + 1e-11;
    const auto& e = s.evaluator;
    EXPECT_LT(MaxError(s.Decrypt(e.Add(x, y).value()), Each(std::plus())), bound);
    EXPECT_LT(MaxError(s.Decrypt(e.Sub(x, y).value()), Each(std::minus())), bound);
    EXPECT_LT(MaxError(s.Decrypt(e.Negate(x)), Each([](auto p, auto) { return -p; })), bound);
    const Plaintext plain = s.encoder.Encode(b, params.max_level(), scale).value();
    EXPECT_LT(MaxError(s.Decrypt(e.AddPlain(x, plain).value()), Each(std::plus())), bound);
    EXPECT_LT(MaxError(s.Decrypt(e.SubPlain(x, plain).value()), Each(std::minus())), bound);
  }
}

TEST_P(EvaluatorTest, ConstantsAreExact) {
  for (const int level : Levels()) {
    const Ciphertext x = s.Encrypt(a, level, 0x1p40);
    const double bound = WorstSlot(params, FreshNoise(), 0x1p40) + 1e-11;
    const auto& e = s.evaluator;
    const Complex c(0.75, -0.5);
    EXPECT_LT(MaxError(s.Decrypt(e.AddConstant(x, c)), Each([&](auto p, auto) { return p + c; })),
              bound);
    EXPECT_LT(
        MaxError(s.Decrypt(e.MulByI(x)), Each([](auto p, auto) { return p * Complex(0, 1); })),
        bound);
    EXPECT_LT(MaxError(s.Decrypt(e.MulInteger(x, -5)), Each([](auto p, auto) { return -5.0 * p; })),
              5 * bound);
    // i (i x) = -x in every word.
    const Ciphertext twice = e.MulByI(e.MulByI(x)), negative = e.Negate(x);
    for (int j = 0; j < params.limbs(level); ++j)
      EXPECT_TRUE(std::ranges::equal(twice.parts[0].limb(j), negative.parts[0].limb(j)));
  }
}

TEST_P(EvaluatorTest, AddConstantAtAHugeScale) {
  Ciphertext x = s.Encrypt(a, 4, 0x1p40);
  x = s.evaluator.MulConstant(x, 1, 0x1p45);
  x = s.evaluator.AddConstant(x, Complex(2, 1));  // 2^86: beyond 64-bit integers
  EXPECT_LT(MaxError(s.Decrypt(x), Each([](auto p, auto) { return p + Complex(2, 1); })),
            WorstSlot(params, FreshNoise(), 0x1p40) + 1e-11);
}

TEST_P(EvaluatorTest, PlainProductAndRescale) {
  for (const int level : {1, 2, params.working_level(), params.max_level()}) {
    const double scale = params.scale(1), prime = static_cast<double>(params.q(level).q);
    const Ciphertext x = s.Encrypt(a, level, scale);
    const Plaintext plain = s.encoder.Encode(b, level, prime).value();
    Ciphertext y = s.evaluator.MulPlain(x, plain).value();
    EXPECT_DOUBLE_EQ(y.scale, scale * prime);
    ASSERT_TRUE(s.evaluator.RescaleInplace(y).ok());
    EXPECT_EQ(y.level, level - 1);
    EXPECT_DOUBLE_EQ(y.scale, scale);
    // |b| <= sqrt 2 times the fresh noise, plus the rounding of c1 s.
    EXPECT_LT(MaxError(s.Decrypt(y), Each(std::multiplies())),
              WorstSlot(params, std::hypot(1.5 * FreshNoise(), RoundingNoise(params)), scale));
  }
}

TEST_P(EvaluatorTest, MulPlainSumEqualsTheSeparateProducts) {
  const int level = params.working_level();
  std::vector<Ciphertext> x;
  std::vector<Plaintext> p;
  for (unsigned i = 0; i < 5; ++i) {
    x.push_back(s.Encrypt(RandomSlots(params.slots(), 10 + i), level));
    p.push_back(s.encoder.Encode(RandomSlots(params.slots(), 20 + i), level, 0x1p40).value());
  }
  std::vector<const Ciphertext*> xs;
  std::vector<const Plaintext*> ps;
  for (size_t i = 0; i < x.size(); ++i) {
    xs.push_back(&x[i]);
    ps.push_back(&p[i]);
  }
  const Ciphertext sum = s.evaluator.MulPlainSum(xs, ps).value();
  Ciphertext expected = s.evaluator.MulPlain(x[0], p[0]).value();
  for (size_t i = 1; i < x.size(); ++i)
    ASSERT_TRUE(s.evaluator.AddInplace(expected, s.evaluator.MulPlain(x[i], p[i]).value()).ok());
  for (int k = 0; k < 2; ++k)
    for (int j = 0; j < params.limbs(level); ++j)
      EXPECT_TRUE(std::ranges::equal(sum.parts[k].limb(j), expected.parts[k].limb(j)));
}

TEST_P(EvaluatorTest, ConstantProduct) {
  const int level = params.working_level();
  Ciphertext x = s.Encrypt(a, level);
  Ciphertext y = s.evaluator.MulConstant(x, -0.3, static_cast<double>(params.q(level).q));
  ASSERT_TRUE(s.evaluator.RescaleInplace(y).ok());
  EXPECT_LT(MaxError(s.Decrypt(y), Each([](auto p, auto) { return -0.3 * p; })),
            WorstSlot(params, std::hypot(FreshNoise(), RoundingNoise(params)), y.scale) + 1e-11);
  Ciphertext sum = s.evaluator.MulConstant(x, 0.5, 0x1p20);
  ASSERT_TRUE(
      s.evaluator.MulConstantAccumulate(sum, s.Encrypt(b, params.max_level(), x.scale), 2).ok());
  EXPECT_LT(MaxError(s.Decrypt(sum), Each([](auto p, auto q) { return 0.5 * p + 2.0 * q; })),
            WorstSlot(params, 3 * FreshNoise(), x.scale) + 1e-11);
}

// Noise of a product: each factor's error times the other factor (|x| <= sqrt 2), then key
// switching on the scale's square, then rounding.
double ProductBound(const Parameters& params, int level, double scale_a, double scale_b) {
  return WorstSlot(params, 1.5 * FreshNoise(), scale_a) +
         WorstSlot(params, 1.5 * FreshNoise(), scale_b) +
         WorstSlot(params, KeySwitchNoise(params, level), scale_a * scale_b);
}

TEST_P(EvaluatorTest, ProductNoiseWithinBound) {
  for (const int level : {1, 9, params.working_level(), params.max_level()}) {
    const double scale = params.scale(1), prime = static_cast<double>(params.q(level).q);
    const Ciphertext x = s.Encrypt(a, level, scale), y = s.Encrypt(b, level, scale);
    const auto& e = s.evaluator;
    Ciphertext z = e.Mul(x, y).value();
    EXPECT_EQ(z.degree(), 1);
    EXPECT_DOUBLE_EQ(z.scale, scale * scale);
    const double bound = ProductBound(params, level, scale, scale) + 1e-11;
    const Slots expected = Each(std::multiplies());
    EXPECT_LT(MaxError(s.Decrypt(z), expected), bound) << level;
    EXPECT_LT(MaxError(s.Decrypt(e.MulNoRelin(x, y).value()), expected), bound);
    const double rounding = WorstSlot(params, RoundingNoise(params), scale * scale / prime);
    ASSERT_TRUE(e.RescaleInplace(z).ok());
    EXPECT_LT(MaxError(s.Decrypt(z), expected), bound + rounding) << level;
    const Ciphertext merged = e.MulRescale(x, y).value();
    EXPECT_EQ(merged.level, level - 1);
    EXPECT_DOUBLE_EQ(merged.scale, z.scale);
    EXPECT_LT(MaxError(s.Decrypt(merged), expected), bound + rounding) << level;
    EXPECT_LT(
        MaxError(s.Decrypt(e.SquareRescale(x).value()), Each([](auto p, auto) { return p * p; })),
        bound + rounding);
  }
}

TEST_P(EvaluatorTest, ProductMatchesLevels) {
  const Ciphertext x = s.Encrypt(a, params.max_level(), 0x1p40), y = s.Encrypt(b, 3, 0x1p40);
  const Ciphertext z = s.evaluator.Mul(x, y).value();
  EXPECT_EQ(z.level, 3);
  EXPECT_LT(MaxError(s.Decrypt(z), Each(std::multiplies())),
            ProductBound(params, 3, 0x1p40, 0x1p40) + 1e-11);
}

TEST_P(EvaluatorTest, LazySumOfProducts) {
  const int level = params.working_level();
  const auto& e = s.evaluator;
  const Ciphertext x = s.Encrypt(a, level), y = s.Encrypt(b, level);
  Ciphertext sum = e.MulNoRelin(x, y).value();
  ASSERT_TRUE(e.MulAccumulateNoRelin(sum, x, x).ok());
  ASSERT_TRUE(e.AddInplace(sum, e.MulNoRelin(y, y).value()).ok());
  const Slots expected = Each([](auto p, auto q) { return p * q + p * p + q * q; });
  const double bound = 4 * ProductBound(params, level, x.scale, y.scale);
  EXPECT_LT(MaxError(s.Decrypt(sum), expected), bound);
  EXPECT_LT(MaxError(s.Decrypt(e.Relinearize(sum).value()), expected), bound);
  EXPECT_LT(MaxError(s.Decrypt(e.RelinearizeRescale(sum).value()), expected),
            bound + WorstSlot(params, RoundingNoise(params), params.scale(level - 1)));
  // A degree-1 term joins a degree-2 sum, on either side.
  const Ciphertext one = e.MulConstant(x, 1, y.scale);
  EXPECT_LT(MaxError(s.Decrypt(e.Sub(one, sum).value()),
                     Each([](auto p, auto q) { return p - p * q - p * p - q * q; })),
            2 * bound);
}

TEST_P(EvaluatorTest, WholeChainOfSquares) {
  Ciphertext x = s.Encrypt(a, params.working_level());
  Slots expected = a;
  for (Complex& value : expected) value /= 1.5;  // |value| < 1
  x = s.Encrypt(expected, params.working_level());
  while (x.level > 0) {
    x = s.evaluator.SquareRescale(x).value();
    for (Complex& value : expected) value *= value;
    EXPECT_TRUE(SameScale(x.scale, params.scale(x.level))) << x.level;
  }
  EXPECT_LT(MaxError(s.Decrypt(x), expected), WorstSlot(params, 200 * 20, x.scale));
}

TEST_P(EvaluatorTest, AdjustTo) {
  const int top = params.working_level();
  const Ciphertext x = s.Encrypt(a, top);
  for (const int level : {0, 1, top - 1}) {
    const Ciphertext y = s.evaluator.AdjustTo(x, level, params.scale(level)).value();
    EXPECT_EQ(y.level, level);
    EXPECT_EQ(y.scale, params.scale(level));
    EXPECT_LT(MaxError(s.Decrypt(y), a),
              WorstSlot(params, std::hypot(FreshNoise(), RoundingNoise(params)), y.scale) + 1e-11);
  }
  EXPECT_EQ(s.evaluator.AdjustTo(x, top, 2 * x.scale).error().code, ErrorCode::kMismatch);
  EXPECT_EQ(s.evaluator.AdjustTo(x, top + 1, x.scale).error().code, ErrorCode::kMismatch);
  EXPECT_EQ(s.evaluator.AdjustTo(x, 0, 1).error().code, ErrorCode::kOutOfRange);
  Ciphertext dropped = x;
  ASSERT_TRUE(s.evaluator.DropLevelInplace(dropped, 0).ok());
  EXPECT_LT(MaxError(s.Decrypt(dropped), a), WorstSlot(params, FreshNoise(), x.scale) + 1e-11);
}

TEST_P(EvaluatorTest, MismatchesNameBothValues) {
  const auto& e = s.evaluator;
  const Ciphertext x = s.Encrypt(a, 3, 0x1p40), y = s.Encrypt(a, 2, 0x1p40),
                   z = s.Encrypt(a, 3, 0x1p41);
  const auto levels = e.Add(x, y);
  ASSERT_FALSE(levels.ok());
  EXPECT_EQ(levels.error().code, ErrorCode::kMismatch);
  EXPECT_NE(levels.error().message.find("levels 3 and 2"), std::string::npos);
  const auto scales = e.Sub(x, z);
  ASSERT_FALSE(scales.ok());
  EXPECT_NE(scales.error().message.find("2^40"), std::string::npos) << scales.error().message;
  EXPECT_NE(scales.error().message.find("2^41"), std::string::npos);
  Ciphertext bottom = s.Encrypt(a, 0, 0x1p40);
  EXPECT_EQ(e.RescaleInplace(bottom).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(e.MulRescale(bottom, bottom).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(e.MulPlain(x, s.encoder.Encode(b, 2, 0x1p40).value()).error().code,
            ErrorCode::kMismatch);
  EXPECT_EQ(e.DropLevelInplace(bottom, 1).error().code, ErrorCode::kMismatch);
  const Evaluator without(s.params, nullptr);
  EXPECT_EQ(without.Mul(x, x).error().code, ErrorCode::kMissingKey);
}

INSTANTIATE_TEST_SUITE_P(Rings, EvaluatorTest,
                         testing::Values("test10", "test11", "test12", "test13"));

}  // namespace
}  // namespace polyveil::ckks
