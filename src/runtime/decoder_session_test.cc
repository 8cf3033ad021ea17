#include "runtime/decoder_session.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/decoder_reference.h"
#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_model.h"

namespace polyveil::runtime {
namespace {

using testing::PredictedError;

std::vector<std::vector<double>> RandomText(int d_model, int tokens) {
  std::mt19937_64 random(11);
  std::vector<std::vector<double>> text;
  for (int i = 0; i < tokens; ++i) text.push_back(testing::RandomEmbedding(d_model, random));
  return text;
}

// Runs the second token on a session that has seen the first.
void ExpectSecondStepAgrees(testing::EncryptedRun& run, const model::Decoder& decoder,
                            const std::vector<std::vector<double>>& text) {
  const auto out = run.session().Step(run.Encrypt(text[1]), {});
  ASSERT_TRUE(out.ok()) << out.error().message;
  model::DecoderReference reference(decoder);
  ASSERT_TRUE(reference.Step(text[0]).ok());
  EXPECT_LT(LargestDifference(*reference.Step(text[1]), run.Decrypt(*out)),
            2 * PredictedError(run.model(), decoder, text));
}

TEST(DecoderSession, EqualsReferenceWithinPredictedNoise) {
  const testing::RandomModelShape shape;
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  EXPECT_GT(run.model()->estimate().bootstraps_per_token, 0);
  const auto text = RandomText(shape.d_model, 4);
  // Twice the worst of eight simulated runs: the model is an upper estimate, its samples are as
  // random as the run's.
  const double tolerance = 2 * PredictedError(run.model(), *decoder, text);
  model::DecoderReference reference(*decoder);
  LatencyTable latency;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto out = run.session().Step(
        run.Encrypt(text[i]), {.on_progress = {}, .cancel = nullptr, .latency = &latency});
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(out->level, run.model()->output_level());
    const double error = LargestDifference(*reference.Step(text[i]), run.Decrypt(*out));
    EXPECT_LT(error, tolerance) << "token " << i;
    RecordProperty("error", std::to_string(error));
  }
  EXPECT_EQ(run.session().position(), static_cast<int>(text.size()));
  double components = 0, primitives = 0;
  for (const auto& row : latency.components) components += row.seconds;
  for (const auto& row : latency.primitives) primitives += row.seconds;
  EXPECT_NEAR(components, latency.total_seconds, 1e-9);
  EXPECT_NEAR(primitives, latency.total_seconds, 1e-9);
}

// The embedded model's blocks behind public tokens; a step that is taken back runs again from them.
TEST(DecoderSession, BehindPublicTokensEqualsReference) {
  const testing::RandomModelShape shape;
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  const auto text = RandomText(shape.d_model, 5);
  const double tolerance = 2 * PredictedError(run.model(), *decoder, text);
  for (const int known : {1, 3}) {
    model::DecoderReference reference(*decoder);
    std::vector<std::vector<double>> expected;
    for (const auto& token : text) expected.push_back(*reference.Step(token));
    DecoderSession session(
        run.engine(),
        model::ComputePublicContext(*decoder, {text.begin(), text.begin() + known}).value());
    ASSERT_TRUE(session.Step(run.Encrypt(text[4]), {}).ok());
    ASSERT_TRUE(session.UndoStep());
    for (int i = known; i < known + 2; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto out = session.Step(run.Encrypt(text[at]), {});
      ASSERT_TRUE(out.ok()) << out.error().message;
      EXPECT_LT(LargestDifference(expected[at], run.Decrypt(*out)), tolerance)
          << known << " public, token " << i;
    }
  }
}

TEST(DecoderSession, CancelledStepLeavesTheStateAsItWas) {
  const testing::RandomModelShape shape{.n_layers = 1};
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  const auto text = RandomText(shape.d_model, 2);
  ASSERT_TRUE(run.session().Step(run.Encrypt(text[0]), {}).ok());
  std::atomic<bool> cancel = false;
  int operations = 0;
  StepOptions options;
  options.cancel = &cancel;
  options.on_progress = [&](const StepProgress&) { cancel = ++operations > 20; };
  const auto stopped = run.session().Step(run.Encrypt(text[1]), options);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(run.session().position(), 1);
  ExpectSecondStepAgrees(run, *decoder, text);
}

TEST(DecoderSession, AStepTakenBackRunsAgain) {
  const testing::RandomModelShape shape{.n_layers = 1};
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  const auto text = RandomText(shape.d_model, 2);
  EXPECT_FALSE(run.session().UndoStep());
  ASSERT_TRUE(run.session().Step(run.Encrypt(text[0]), {}).ok());
  ASSERT_TRUE(run.session().Step(run.Encrypt(text[0]), {}).ok());
  ASSERT_TRUE(run.session().UndoStep());
  EXPECT_FALSE(run.session().UndoStep());
  EXPECT_EQ(run.session().position(), 1);
  ExpectSecondStepAgrees(run, *decoder, text);
}

TEST(DecoderSession, RefusesWrongLevelScaleAndLength) {
  const testing::RandomModelShape shape{.n_layers = 1, .context = 1};
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  const auto text = RandomText(shape.d_model, 1);
  ckks::Ciphertext token = run.Encrypt(text[0]);
  ckks::Ciphertext wrong = token;
  wrong.level -= 1;
  EXPECT_EQ(run.session().Step(wrong, {}).error().code, ErrorCode::kMismatch);
  wrong = token;
  wrong.scale *= 2;
  EXPECT_EQ(run.session().Step(wrong, {}).error().code, ErrorCode::kMismatch);
  ASSERT_TRUE(run.session().Step(token, {}).ok());
  EXPECT_EQ(run.session().Step(token, {}).error().code, ErrorCode::kOutOfRange);
}

TEST(Engine, RefusesKeysThatDoNotCoverTheProgram) {
  const testing::RandomModelShape shape{.n_layers = 1};
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(decoder, testing::TestParams());
  auto keys = std::make_shared<ckks::EvaluationKeys>(run.keys());
  keys->rotations.erase(keys->rotations.begin());
  const auto engine = Engine::Create(std::make_shared<WeightStore>(run.model()), keys);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, ErrorCode::kMissingKey);
}

}  // namespace
}  // namespace polyveil::runtime
