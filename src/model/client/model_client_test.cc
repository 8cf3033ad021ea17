// Tokenizer, sampling, embedding and head.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "model/client/language_model.h"
#include "model/ngram.h"

namespace polyveil::model {
namespace {

Tokenizer Small() {
  return Tokenizer::Train({"the cat sat on the mat. the cat ran. the cats' hats\n", "a then the"},
                          300)
      .value();
}

TEST(NextPiece, CutsAtWordsKeepingTheSpaceInFront) {
  std::vector<std::string> pieces;
  std::string_view rest = "It's  two cats,\n 42!";
  while (!rest.empty()) {
    pieces.emplace_back(NextPiece(rest));
    rest.remove_prefix(pieces.back().size());
  }
  EXPECT_EQ(pieces,
            (std::vector<std::string>{"It", "'s", " ", " two", " cats", ",", "\n", " 42", "!"}));
}

TEST(Tokenizer, LearnsTheMostFrequentPairsFirst) {
  const auto t = Tokenizer::Train({"aab aab aab ab"}, 259).value();
  // "ab" occurs 4 times, then " a" + "ab"-pairs: (' ', 'a') 3 times beats nothing else of count 4.
  EXPECT_EQ(t.Piece(257).value(), "ab");
  EXPECT_EQ(t.vocab_size(), 259);
}

TEST(Tokenizer, RoundTripsAnyBytes) {
  const Tokenizer t = Small();
  std::mt19937_64 random(7);
  for (int length = 0; length < 300; ++length) {
    std::string text;
    for (int i = 0; i < length; ++i)
      text += static_cast<char>(length % 2 ? random() % 256 : "the cat"[random() % 7]);
    EXPECT_EQ(t.Decode(t.Encode(text)).value(), text);
  }
}

TEST(Tokenizer, FileFormRoundTrips) {
  const Tokenizer t = Small();
  const auto again = Tokenizer::Parse(t.Format()).value();
  EXPECT_EQ(again.vocab_size(), t.vocab_size());
  EXPECT_EQ(again.Encode("the cat then"), t.Encode("the cat then"));
  EXPECT_LT(t.Encode("the cat").size(), 4u);
}

TEST(Tokenizer, RefusesBadFiles) {
  for (const char* bad : {"", "[]", "{\"format\":\"polyveil-tokenizer/1\"}",
                          "{\"format\":\"polyveil-tokenizer/1\",\"merges\":[[97]]}",
                          "{\"format\":\"polyveil-tokenizer/1\",\"merges\":[[97,257]]}",
                          "{\"format\":\"polyveil-tokenizer/1\",\"merges\":[[97,256]]}",
                          "{\"format\":\"polyveil-tokenizer/1\",\"merges\":[[97,-1]]}",
                          "{\"format\":\"polyveil-tokenizer/1\",\"merges\":[[97,98],[97,98]]}",
                          "{\"format\":\"other\",\"merges\":[]}"})
    EXPECT_FALSE(Tokenizer::Parse(bad).ok()) << bad;
}

TEST(Tokenizer, UnknownTokenNamesBothValues) {
  const auto result = Small().Decode({70000});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("70000"), std::string::npos);
}

TEST(Sampler, GreedyTakesTheFirstLargest) {
  EXPECT_EQ(Sampler({}).Pick(std::vector<double>{0, 3, 3, 1}), 1);
}

TEST(Sampler, FollowsTheProbabilities) {
  Sampler sampler({.temperature = 1.0, .seed = 5});
  const std::vector<double> logits = {std::log(0.7), std::log(0.2), std::log(0.1)};
  std::vector<int> counts(3);
  for (int i = 0; i < 20000; ++i) ++counts[sampler.Pick(logits)];
  EXPECT_NEAR(counts[0] / 20000.0, 0.7, 0.015);  // 4.6 standard deviations
  EXPECT_NEAR(counts[2] / 20000.0, 0.1, 0.01);
}

TEST(Sampler, TopPKeepsTheNucleusAndSeedsRepeat) {
  const std::vector<double> logits = {std::log(0.1), std::log(0.6), std::log(0.3)};
  Sampler x({1.0, 0.65, 9}), y({1.0, 0.65, 9});
  for (int i = 0; i < 200; ++i) {
    const TokenId picked = x.Pick(logits);
    EXPECT_NE(picked, 0);
    EXPECT_EQ(picked, y.Pick(logits));
  }
}

TEST(Sampler, RefusesBadOptions) {
  EXPECT_FALSE(ValidateSampling({-1, 1, 0}).ok());
  EXPECT_FALSE(ValidateSampling({1, 0, 0}).ok());
  EXPECT_FALSE(ValidateSampling({NAN, 1, 0}).ok());
  EXPECT_TRUE(ValidateSampling({0.8, 0.9, 1}).ok());
}

TEST(Client, EmbedsAndPredictsByHand) {
  ClientBundle client;
  client.config.final_norm_eps = 0;
  client.weights = {{2, 2, {1, 2, 3, 4}}, {2, 2, {0.5, 0, 0, 0.25}}, {2, 1}};
  const auto embed = [&](std::vector<TokenId> text) { return Embed(client, text); };
  EXPECT_EQ(embed({0, 1}).value(), (std::vector<double>{3, 4.25}));
  EXPECT_FALSE(embed({}).ok());
  EXPECT_FALSE(embed({2}).ok());
  EXPECT_FALSE(embed({0, 0, 0}).ok());
  const auto logits = Head(client, std::vector<double>{3, 4}).value();
  const double root = 1 / std::sqrt(12.5);  // of mean(9, 16)
  EXPECT_NEAR(logits[0], (6 + 8) * root, 1e-12);
  EXPECT_NEAR(logits[1], (18 + 16) * root, 1e-12);
  EXPECT_FALSE(Head(client, std::vector<double>{3}).ok());
}

// A table's entry joins from the n-th token on, whatever stands before the last n.
TEST(Client, EmbedsNgrams) {
  ClientBundle client;
  client.weights = {{4, 1, {1, 2, 3, 4}}, {4, 1, {0, 0, 0, 0}}, {1}};
  client.weights.ngrams = {{8, 1, {10, 20, 30, 40, 50, 60, 70, 80}}, {2, 1, {100, 200}}};
  const auto embed = [&](std::vector<TokenId> text) { return Embed(client, text).value()[0]; };
  const auto entry = [](std::vector<TokenId> ngram, std::int64_t rows) {
    return static_cast<double>(NgramRow(ngram, rows) + 1);
  };
  EXPECT_EQ(embed({3}), 4);
  EXPECT_EQ(embed({3, 1}), 2 + 10 * entry({3, 1}, 8));
  EXPECT_EQ(embed({0, 3, 1}), 2 + 10 * entry({3, 1}, 8) + 100 * entry({0, 3, 1}, 2));
  EXPECT_EQ(embed({2, 0, 3, 1}), embed({0, 3, 1}));
}

TEST(Sampler, TopKKeepsThatMany) {
  const std::vector<double> logits{1, 3, 2, 2.5};
  SamplingOptions options{.temperature = 5, .top_p = 1, .top_k = 2, .seed = 3};
  std::set<TokenId> seen;
  Sampler sampler(options);
  for (int i = 0; i < 300; ++i) seen.insert(sampler.Pick(logits));
  EXPECT_EQ(seen, (std::set<TokenId>{1, 3}));
  options.top_k = 1;
  Sampler greedy(options);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(greedy.Pick(logits), 1);
  options.top_k = 99;
  Sampler all(options);
  for (int i = 0; i < 300; ++i) seen.insert(all.Pick(logits));
  EXPECT_EQ(seen.size(), 4u);
}

TEST(Sampler, RepetitionPenaltyTurnsFromWhatTheTextHas) {
  Sampler sampler({.repetition_penalty = 2});
  EXPECT_EQ(sampler.Pick(std::vector<double>{4, 3, 1}), 0);
  const std::vector<TokenId> text{0, 0, 7, -1};  // once, however often; others count for nothing
  EXPECT_EQ(sampler.Pick(std::vector<double>{4, 3, 1}, text), 1);
  EXPECT_EQ(sampler.Pick(std::vector<double>{8, 3, 1}, text), 0);
  EXPECT_EQ(sampler.Pick(std::vector<double>{-2, -3, -9}, text), 1);
  EXPECT_FALSE(ValidateSampling({.repetition_penalty = 0}).ok());
  EXPECT_FALSE(ValidateSampling({.repetition_penalty = std::nan("")}).ok());
  EXPECT_FALSE(ValidateSampling({.top_k = -1}).ok());
}

}  // namespace
}  // namespace polyveil::model
