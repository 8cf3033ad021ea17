#include "circuits/chebyshev.h"

#include "circuits/context_test.h"

namespace polyveil::circuits {
namespace {

class ChebyshevTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    context_ = new TestContext("test11");
    ckks::KeyRequest request;
    request.AddRelinearization(context_->params()->max_level());
    context_->MakeKeys(request);
  }
  static void TearDownTestSuite() { delete context_; }

  static double WorstErrorOf(const std::vector<double>& c, int level, double scale) {
    const auto u = RandomSlots(context_->params()->slots(), false, c.size());
    const auto x = context_->Encrypt(u, level, scale);
    const double output_scale = scale * 1.125;
    const auto y = EvaluateChebyshev(context_->evaluator(), x, c, output_scale).value();
    EXPECT_EQ(y.level, level - ChebyshevDepth(int(c.size()) - 1));
    EXPECT_EQ(y.scale, output_scale);
    std::vector<Complex> expected;
    for (const Complex& v : u) expected.push_back(Clenshaw(c, v.real()));
    return WorstError(context_->Decrypt(y), expected);
  }

  // Errors of the basis grow at most 4 times per product of values up to 2 (both factors, relative
  // to 1), i.e. like degree^2; each enters with its coefficient, so an operation's noise times
  // degree^2 times sum |c|.
  static double Bound(const std::vector<double>& c, double scale) {
    double sum = 0;
    for (const double v : c) sum += std::fabs(v);
    const double degree = double(c.size());
    return context_->OperationNoise() / scale * degree * degree * (1 + sum);
  }

  static TestContext* context_;
};
TestContext* ChebyshevTest::context_ = nullptr;

TEST_F(ChebyshevTest, EveryDegreeOnWorkingLevels) {
  std::mt19937_64 rng(7);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const int level = context_->params()->working_level();
  const double scale = context_->params()->scale(level);
  for (int degree = 0; degree <= kMaxChebyshevDegree; degree += degree < 64 ? 1 : 7) {
    std::vector<double> c(degree + 1);
    const int parity = degree % 3;  // all, odd, even
    for (int k = 0; k <= degree; ++k)
      c[k] = parity == 0 || k == degree || k % 2 == parity % 2 ? uniform(rng) : 0;
    EXPECT_LT(WorstErrorOf(c, level, scale), Bound(c, scale)) << "degree " << degree;
  }
}

TEST_F(ChebyshevTest, EvalModLevelsAreMorePrecise) {
  const int level = context_->params()->working_level() + 8;
  std::vector<double> c(32, 0.25);
  EXPECT_LT(WorstErrorOf(c, level, 0x1p50), Bound(c, 0x1p50));
  EXPECT_LT(WorstErrorOf(c, level, 0x1p50), 0x1p-24);
}

TEST_F(ChebyshevTest, ZeroAndVanishingLeadingCoefficientsKeepTheNominalDepth) {
  const int level = context_->params()->working_level();
  const double scale = context_->params()->scale(level);
  for (const std::vector<double>& c : {std::vector<double>(8, 0.0),
                                       {0.5, 0, 0, 0},
                                       {0.25, 1, 0, 0, 0, 0, 0, 0, 0},
                                       {0, 0, 0, 0, 1}}) {
    EXPECT_LT(WorstErrorOf(c, level, scale), Bound(c, scale));
  }
}

TEST_F(ChebyshevTest, MaskedEvaluationSharesScaleAndLevel) {
  const int level = context_->params()->working_level() + 8;
  for (const size_t degree : {1, 7, 28, 31}) {
    std::vector<double> c(degree + 1);
    for (size_t k = 0; k <= degree; ++k) c[k] = std::sin(double(k + 1));
    const auto u = RandomSlots(context_->params()->slots(), false, degree);
    const std::vector<Complex> mask{Complex(1, 0.5), Complex(-0.25), 0, Complex(0, 1)};
    const auto pair =
        EvaluateChebyshevMasked(context_->evaluator(), context_->encoder(),
                                context_->Encrypt(u, level, 0x1p50), c, mask, 0x1.8p49);
    ASSERT_TRUE(pair.ok()) << pair.error().message;
    EXPECT_EQ(pair->plain.level, pair->masked.level);
    EXPECT_EQ(pair->masked.scale, 0x1.8p49);
    std::vector<Complex> plain, masked;
    for (size_t j = 0; j < u.size(); ++j) {
      plain.push_back(Clenshaw(c, u[j].real()));
      masked.push_back(plain.back() * mask[j % mask.size()]);
    }
    EXPECT_LT(WorstError(context_->Decrypt(pair->plain), plain), Bound(c, 0x1p49));
    EXPECT_LT(WorstError(context_->Decrypt(pair->masked), masked), Bound(c, 0x1p49));
  }
}

TEST_F(ChebyshevTest, Errors) {
  const auto u = RandomSlots(16, false, 1);
  const auto x = context_->Encrypt(u, 3);
  const auto& evaluator = context_->evaluator();
  const auto too_deep = EvaluateChebyshev(evaluator, x, std::vector<double>(9, 1.0), 0x1p40);
  ASSERT_FALSE(too_deep.ok());
  EXPECT_EQ(too_deep.error().code, ErrorCode::kOutOfRange);
  EXPECT_NE(too_deep.error().message.find("level 3 < depth 4"), std::string::npos);
  EXPECT_EQ(EvaluateChebyshev(evaluator, x, {}, 0x1p40).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(EvaluateChebyshev(evaluator, x, std::vector<double>(129, 1.0), 0x1p40).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(EvaluateChebyshev(evaluator, x, std::vector<double>(3, 1e9), 0x1p40).error().code,
            ErrorCode::kOutOfRange);
  const ckks::Evaluator keyless(context_->params(), nullptr);
  EXPECT_EQ(EvaluateChebyshev(keyless, x, std::vector<double>(4, 1.0), 0x1p40).error().code,
            ErrorCode::kMissingKey);
}

}  // namespace
}  // namespace polyveil::circuits
