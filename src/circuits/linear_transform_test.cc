#include "circuits/linear_transform.h"

#include "circuits/context_test.h"

namespace polyveil::circuits {
namespace {

DiagonalMatrix RandomMatrix(int log_period, std::span<const int> indices, u64 seed) {
  DiagonalMatrix matrix{log_period, {}};
  for (const int r : indices) matrix.diagonals[r] = RandomSlots(matrix.period(), true, seed++);
  return matrix;
}

class LinearTransformTest : public ::testing::Test {
 protected:
  static constexpr int kLevel = 7;

  static void SetUpTestSuite() { context_ = new TestContext("test10"); }
  static void TearDownTestSuite() { delete context_; }

  // Encoding: every coefficient of a diagonal is off by 1/2 at most, 6 sigma in the slots 6 sqrt(N
  // / 12) / plain scale, times |x| <= sqrt(2); key switching and rescale: one operation's noise per
  // rotation at the doubled scale, the rescale's own at the output. The factor `count` adds the
  // diagonals' errors up in the worst way.
  static double Bound(size_t count, double output_scale) {
    const double n = context_->params()->n();
    const double plain_scale = LevelScale();
    return double(count) * 6 * std::sqrt(2 * n / 12) / plain_scale +
           (1 + double(count) / 8) * context_->OperationNoise() / output_scale;
  }
  static double LevelScale() { return double(context_->params()->q(kLevel).q) * 1.25; }

  static void Check(const DiagonalMatrix& matrix, int baby_steps) {
    const auto& params = *context_->params();
    const double scale = params.scale(kLevel);
    const auto transform = LinearTransform::Create(context_->encoder(), matrix, kLevel, scale,
                                                   1.25 * scale, baby_steps);
    ASSERT_TRUE(transform.ok()) << transform.error().message;
    ckks::KeyRequest request, shape_request;
    transform->AddKeys(request, params.slots());
    LinearTransform::AddKeys(shape_request, params, matrix, kLevel, baby_steps);
    EXPECT_EQ(request.rotations, shape_request.rotations);
    context_->MakeKeys(request);
    const auto x = RandomSlots(matrix.period(), true, 99);
    const auto y = transform->Apply(context_->evaluator(), context_->Encrypt(x, kLevel + 1, scale));
    ASSERT_TRUE(y.ok()) << y.error().message;
    EXPECT_EQ(y->level, kLevel - 1);
    EXPECT_EQ(y->scale, 1.25 * scale);
    const auto expected = Repeat(ApplyPlain(matrix, x), params.slots());
    EXPECT_LT(WorstError(context_->Decrypt(*y), expected),
              Bound(matrix.diagonals.size(), y->scale));
  }

  static TestContext* context_;
};
TestContext* LinearTransformTest::context_ = nullptr;

TEST_F(LinearTransformTest, MatchesTheDenseProduct) {
  const int log_slots = context_->params()->log_slots();
  for (const int log_period : {0, 1, 4, log_slots}) {
    std::vector<int> indices;
    for (int r = 0; r < std::min(1 << log_period, 24); ++r) indices.push_back(r);
    for (const int baby_steps : {0, 1, 4, 100})
      Check(RandomMatrix(log_period, indices, 5), baby_steps);
  }
}

TEST_F(LinearTransformTest, SparseNegativeAndStridedIndices) {
  for (const int log_period : {6, context_->params()->log_slots()}) {
    Check(RandomMatrix(log_period, std::vector<int>{-3, 5}, 1), 0);
    Check(RandomMatrix(log_period, std::vector<int>{7}, 2), 0);
    Check(RandomMatrix(log_period, std::vector<int>{-24, -16, -8, 0, 8, 16, 24, 32}, 3), 0);
  }
}

TEST_F(LinearTransformTest, PeriodicDiagonalsAreStoredCompactly) {
  DiagonalMatrix matrix = RandomMatrix(8, std::vector<int>{0, 1, 2}, 4);
  for (auto& [r, d] : matrix.diagonals) d = Repeat(std::span(d).first(4), 256);
  Check(matrix, 0);
  const auto transform =
      LinearTransform::Create(context_->encoder(), matrix, kLevel, 0x1p40, 0x1p40);
  const size_t limbs = context_->params()->extended_limbs(kLevel);
  EXPECT_EQ(transform->plaintext_bytes(), 3 * limbs * 8 * sizeof(u64));  // 2 * 4 values per limb
}

// A diagonal of fewer entries than slots repeats them; those of a row may repeat different numbers.
TEST_F(LinearTransformTest, ShortDiagonalsRepeat) {
  const auto& params = *context_->params();
  const double scale = params.scale(kLevel);
  DiagonalMatrix matrix{params.log_slots(), {}}, whole = matrix;
  for (const int r : {-17, -1, 0, 3, 40}) {
    const size_t entries = r == 0 ? 1 : r == 3 ? 256 : 16;
    matrix.diagonals[r] = RandomSlots(entries, true, static_cast<u64>(100 + r));
    whole.diagonals[r] = Repeat(matrix.diagonals[r], params.slots());
  }
  const auto transform =
      LinearTransform::Create(context_->encoder(), matrix, kLevel, scale, scale, 8);
  ASSERT_TRUE(transform.ok()) << transform.error().message;
  ckks::KeyRequest request;
  transform->AddKeys(request, params.slots());
  context_->MakeKeys(request);
  const auto x = RandomSlots(static_cast<size_t>(params.slots()), true, 99);
  const auto y = transform->Apply(context_->evaluator(), context_->Encrypt(x, kLevel, scale));
  ASSERT_TRUE(y.ok()) << y.error().message;
  EXPECT_LT(WorstError(context_->Decrypt(*y), ApplyPlain(whole, x)), Bound(5, y->scale));
  matrix.diagonals[0].resize(12);
  EXPECT_FALSE(LinearTransform::Create(context_->encoder(), matrix, kLevel, scale, scale).ok());
}

TEST_F(LinearTransformTest, Errors) {
  const auto& encoder = context_->encoder();
  const auto good = RandomMatrix(4, std::vector<int>{0, 1}, 1);
  auto code = [&](const DiagonalMatrix& m, int level) {
    return LinearTransform::Create(encoder, m, level, 0x1p40, 0x1p40).error().code;
  };
  EXPECT_EQ(code({4, {}}, kLevel), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(good, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(good, 1000), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({40, good.diagonals}, kLevel), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({3, good.diagonals}, kLevel), ErrorCode::kInvalidArgument);
  auto twice = good;
  twice.diagonals[17] = twice.diagonals[1];
  EXPECT_EQ(code(twice, kLevel), ErrorCode::kInvalidArgument);

  const auto transform = LinearTransform::Create(encoder, good, kLevel, 0x1p40, 0x1p40).value();
  context_->MakeKeys({});
  const auto& evaluator = context_->evaluator();
  const auto x = RandomSlots(16, true, 1);
  EXPECT_EQ(transform.Apply(evaluator, context_->Encrypt(x, kLevel - 1, 0x1p40)).error().code,
            ErrorCode::kMismatch);
  EXPECT_EQ(transform.Apply(evaluator, context_->Encrypt(x, kLevel, 0x1p39)).error().code,
            ErrorCode::kMismatch);
  EXPECT_EQ(transform.Apply(evaluator, context_->Encrypt(x, kLevel, 0x1p40)).error().code,
            ErrorCode::kMissingKey);
}

}  // namespace
}  // namespace polyveil::circuits
