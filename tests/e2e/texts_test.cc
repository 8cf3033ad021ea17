// Texts decoded together through real HTTP on a small insecure ring.
#include "e2e/served_fixture.h"

namespace polyveil::testing {
namespace {

using Embeddings = std::vector<std::vector<double>>;

class TextsTest : public ServedModelTest {
 protected:
  TextsTest() {
    static const serve::ServedModel served =
        serve::ServeDecoder(Shared(*Bundle()), "test10", "test", Limits(), {.texts = 4}).value();
    served_ = served;
  }

  Embeddings Tokens(int count, std::mt19937_64& random) const {
    Embeddings tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(Embedding(random));
    return tokens;
  }

  void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected) const {
    for (size_t j = 0; j < expected.size(); ++j) EXPECT_NEAR(actual[j], expected[j], 0.05) << j;
  }
};

TEST_F(TextsTest, EachEqualsTheReference) {
  Client client = NewClient();
  EXPECT_EQ(client.remote->info().texts, 4);
  EXPECT_FALSE(client.remote->info().estimate.levels.empty());
  for (const int count : {1, 3, 4}) {
    auto session = client.NewSession();
    std::vector<model::DecoderReference> references;
    for (int t = 0; t < count; ++t) references.emplace_back(*served_.decoder);
    std::mt19937_64 random(7);
    for (int step = 0; step < 2; ++step) {
      const Embeddings tokens = Tokens(count, random);
      const auto results = session->StepTexts(tokens, {});
      ASSERT_TRUE(results.ok()) << results.error().message;
      ASSERT_EQ(results->residuals.size(), tokens.size());
      for (size_t t = 0; t < tokens.size(); ++t)
        ExpectNear(results->residuals[t], references[t].Step(tokens[t]).value());
    }
    EXPECT_EQ(session->position(), 2);
  }
}

// What goes up and comes down is as long whatever the texts are and however many.
TEST_F(TextsTest, TheServerDoesNotSeeHowManyThereAre) {
  Client client = NewClient();
  std::mt19937_64 random(7);
  std::vector<u64> bytes;
  for (const int count : {1, 2, 4}) {
    auto session = client.NewSession();
    const auto results = session->StepTexts(Tokens(count, random), {});
    ASSERT_TRUE(results.ok()) << results.error().message;
    bytes.push_back(results->cost.bytes_up);
  }
  EXPECT_EQ(bytes[0], bytes[1]);
  EXPECT_EQ(bytes[0], bytes[2]);
}

TEST_F(TextsTest, OneTextIsStillAText) {
  Client client = NewClient();
  auto session = client.NewSession();
  model::DecoderReference reference(*served_.decoder);
  std::mt19937_64 random(9);
  ExpectStepsAgree(*session, reference, 2, random);
}

TEST_F(TextsTest, MoreThanTheServerDecodesAreRefused) {
  Client client = NewClient();
  auto session = client.NewSession();
  std::mt19937_64 random(9);
  for (const int count : {0, 5}) {
    const auto results = session->StepTexts(Tokens(count, random), {});
    ASSERT_FALSE(results.ok());
    EXPECT_EQ(results.error().message,
              fmt::format("{} texts together, the server decodes 4", count));
  }
  // One bad text is the whole step's.
  Embeddings tokens = Tokens(2, random);
  tokens[1][0] = 1e9;
  EXPECT_EQ(session->StepTexts(tokens, {}).error().code, ErrorCode::kOutOfRange);
  tokens[1].pop_back();
  EXPECT_EQ(session->StepTexts(tokens, {}).error().code, ErrorCode::kMismatch);
  EXPECT_EQ(session->position(), 0);
}

}  // namespace
}  // namespace polyveil::testing
