// What requests of a group share, and that sharing changes no score.
#include "eval/bundle_scorer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

namespace polyveil::model {
namespace {

constexpr int kVocabulary = 260, kPositions = 12;

// The residual sums the embeddings read so far with decreasing weights: order matters. Counts
// steps.
class SumRunner : public BodyRunner {
 public:
  explicit SumRunner(std::atomic<int>* steps) : steps_(steps) {}
  Result<std::vector<double>> Step(std::span<const double> embedding) override {
    ++*steps_;
    if (embedding[0] > 1e6) return MakeError(ErrorCode::kCancelled, "stopped");
    for (std::size_t i = 0; i < embedding.size(); ++i) sum_[i] = 0.5 * sum_[i] + embedding[i];
    return sum_;
  }
  std::unique_ptr<BodyRunner> Clone() const override { return std::make_unique<SumRunner>(*this); }

 private:
  std::atomic<int>* steps_;
  std::vector<double> sum_ = {0, 0};
};

struct Fixture {
  std::shared_ptr<LanguageModelBundle> bundle = std::make_shared<LanguageModelBundle>(
      LanguageModelBundle{{}, {}, Tokenizer::Train({"ab ab"}, kVocabulary).value()});
  std::atomic<int> steps = 0;

  Fixture() {
    ModelConfig config;
    config.d_model = 2;
    config.vocab_size = kVocabulary;
    config.context = kPositions;
    bundle->body.config = config;
    bundle->client.config = config;
    ClientWeights& client = bundle->client.weights;
    client.embed = {kVocabulary, 2, {}};
    client.pos = {kPositions, 2, {}};
    for (int i = 0; i < 2 * kVocabulary; ++i) client.embed.values.push_back(std::sin(7.0 * i));
    for (int i = 0; i < 2 * kPositions; ++i) client.pos.values.push_back(std::cos(5.0 * i));
    client.final_gamma = {1, 1};
  }

  std::unique_ptr<TextScorer> Scorer(bool concurrent) {
    const auto start = [this](std::size_t) { return std::make_unique<SumRunner>(&steps); };
    return MakeScorer(bundle, {start, concurrent});
  }
};

// Answers that branch at several depths; the last one comes back to a path that was left.
std::vector<ScoreRequest> Branching(std::size_t group) {
  return {{{9, 1, 2}, {3, 4, 5}, group}, {{9, 1, 2}, {3, 4, 6}, group},
          {{9, 1, 2}, {3, 7, 8}, group}, {{9, 1, 2}, {3}, group},
          {{9, 1}, {5, 2}, group},       {{9, 1, 2}, {3, 4, 5, 6}, group}};
}

TEST(BundleScorer, SharedTokensAreReadOnceAndChangeNoScore) {
  Fixture fixture;
  std::vector<ScoreRequest> requests = Branching(0), again = Branching(1);
  requests.insert(requests.end(), again.begin(), again.end());
  for (const bool concurrent : {false, true}) {
    const auto scorer = fixture.Scorer(concurrent);
    const auto scores = scorer->Score(requests).value();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto alone = scorer->Score(std::span(requests).subspan(i, 1)).value();
      EXPECT_EQ(scores[i].log_probability, alone[0].log_probability) << i;
      EXPECT_EQ(scores[i].greedy, alone[0].greedy) << i;
    }
  }
}

TEST(BundleScorer, CountsItsSteps) {
  Fixture fixture;
  const std::vector<ScoreRequest> pair = {{{9}, {1, 2, 3, 4}, 5}, {{9}, {1, 2, 4, 3}, 5}};
  EXPECT_EQ(CountSteps(pair), 5u);  // 9 1 2 3, and 9 1 2 4
  std::vector<ScoreRequest> two = Branching(1);
  two.pop_back();
  EXPECT_EQ(CountSteps(two), 7u);  // 9 1 2 3 4, 9 1 2 3 7, 9 1 5
  two.insert(two.end(), pair.begin(), pair.end());
  ASSERT_TRUE(fixture.Scorer(false)->Score(two).ok());
  EXPECT_EQ(fixture.steps, 12);
}

TEST(BundleScorer, ErrorsOfTheBodyAreReturned) {
  Fixture fixture;
  fixture.bundle->client.weights.embed.values[2 * 77] = 1e7;
  const std::vector<ScoreRequest> requests = {{{9}, {1, 2}, 0}, {{9, 77}, {1, 2}, 1}};
  for (const bool concurrent : {false, true}) {
    const auto scores = fixture.Scorer(concurrent)->Score(requests);
    ASSERT_FALSE(scores.ok());
    EXPECT_EQ(scores.error().code, ErrorCode::kCancelled);
  }
  const std::vector<ScoreRequest> far = {{{9}, std::vector<TokenId>(kPositions + 1, 2), 0}};
  EXPECT_NE(fixture.Scorer(true)->Score(far).error().message.find("13 tokens > context 12"),
            std::string::npos);
}

}  // namespace
}  // namespace polyveil::model
