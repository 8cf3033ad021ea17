#include "model/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

namespace polyveil::model {
namespace {

constexpr int kTokens = 200, kColumns = 8;

ChoiceTables SmallTables() {
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  ChoiceTables tables;
  tables.vocabulary = kTokens;
  tables.width = kColumns;
  tables.norm_eps = 1e-5;
  tables.digest = "small";
  for (int i = 0; i < kTokens * kColumns; ++i) {
    tables.head.push_back(static_cast<float>(normal(random)));
    tables.embedding.push_back(static_cast<float>(normal(random)));
  }
  for (int c = 0; c < kColumns; ++c) {
    double mean = 0;
    for (int v = 0; v < kTokens; ++v) mean += tables.head[v * kColumns + c] / kTokens;
    for (int v = 0; v < kTokens; ++v) tables.head[v * kColumns + c] -= static_cast<float>(mean);
  }
  return tables;
}

std::vector<std::vector<double>> Residuals(int count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<std::vector<double>> residuals(static_cast<size_t>(count),
                                             std::vector<double>(kColumns));
  for (auto& residual : residuals)
    for (double& v : residual) v = normal(random);
  return residuals;
}

ChoiceForms Fitted() { return FitChoice(SmallTables(), Residuals(600, 1), {}).value(); }

double Gap(std::vector<double> logits) {
  std::ranges::nth_element(logits, logits.begin() + 1, std::greater<>());
  return logits[0] - logits[1];
}

// On rows that were not fitted: decided where the lead is clear, never wrong.
TEST(ChoiceForms, DecidesWhereTheLeadIsClear) {
  const ChoiceTables tables = SmallTables();
  const ChoiceForms forms = Fitted();
  int undecided = 0, outside = 0;
  const auto residuals = Residuals(400, 2);
  for (size_t i = 0; i < residuals.size(); ++i) {
    auto logits = CentredLogits(tables, residuals[i]);
    const auto noise = ChoiceNoise(Seed{3}, i, kTokens, i % 2 == 0 ? 0 : 1);
    for (size_t v = 0; v < logits.size(); ++v) logits[v] += noise[v];
    const ChosenBits chosen = Choose(forms, logits);
    if (!chosen.decided()) {
      ++undecided;
      outside += Gap(logits) > 0.1;
      continue;
    }
    EXPECT_EQ(chosen.token, std::ranges::max_element(logits) - logits.begin());
  }
  EXPECT_LT(undecided, 40);
  // Residuals of eight normal values have long tails: some leave what was fitted.
  EXPECT_LE(outside, 4);
}

// What no interval was made for makes a choice undecided, not huge.
TEST(ChoiceForms, StaysBoundedOnTies) {
  const ChoiceForms forms = Fitted();
  for (const int tied : {2, 3, 20, kTokens / 2}) {
    std::vector<double> logits(kTokens);
    std::fill_n(logits.begin(), tied, 3.0);
    const double mean = 3.0 * tied / kTokens;
    for (double& l : logits) l -= mean;
    const auto weights = ChoiceWeights(forms, logits);
    EXPECT_GE(std::ranges::min(weights), 0);
    EXPECT_LE(std::accumulate(weights.begin(), weights.end(), 0.0), kMostBit);
    for (const double bit : ChoiceBits(forms, weights)) EXPECT_LE(std::abs(bit), kMostBit);
    EXPECT_FALSE(Choose(forms, logits).decided()) << tied;
  }
}

// The signs are those of the largest weight wherever it is certain, whatever the others' bits are.
TEST(ChoiceForms, WhatIsCertainIsTheLargestWeights) {
  std::mt19937_64 random(6);
  std::uniform_real_distribution<double> uniform;
  const ChoiceForms forms = Fitted();
  int certain = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> weights(8);
    double sum = 0, squares = 0;
    for (double& w : weights) {
      w = std::pow(uniform(random), 6);
      sum += w;
    }
    const double scale = (0.05 + 0.95 * uniform(random)) / sum;
    for (double& w : weights) {
      w *= scale;
      squares += w * w;
    }
    if (Certainty(sum * scale, squares) < kDecided) continue;
    ++certain;
    ChosenBits read;
    const auto bits = ChoiceBits(forms, weights);
    for (int bit = 0; bit < 3; ++bit) read.Add(bit, bits[static_cast<size_t>(bit)]);
    EXPECT_EQ(read.token, std::ranges::max_element(weights) - weights.begin());
  }
  EXPECT_GT(certain, 500);
  EXPECT_EQ(Certainty(0.5 * kLeastWeight, 1), 0);
}

TEST(ChoiceForms, BitsAreCleanedUp) {
  const auto& clean = BitCleanup();
  double before = 0;
  for (double x = 0; x <= 1; x += 1.0 / 64) {
    const double y = clean(x);
    EXPECT_GE(y, before - 1e-12);
    EXPECT_GE(y, x - 1e-12);
    EXPECT_NEAR(clean(-x), -y, 1e-12);
    before = y;
  }
  for (double e = -0.05; e <= 0.05; e += 0.01) EXPECT_NEAR(clean(1 + e), 1, 1e-7);
  EXPECT_NEAR(clean.Derivative(0), 3.1421, 1e-3);
}

TEST(ChoiceForms, NoiseIsGumbels) {
  constexpr int kCount = 20000;
  const auto noise = ChoiceNoise(Seed{5}, 7, kCount, 2);
  const double mean = std::accumulate(noise.begin(), noise.end(), 0.0) / kCount;
  double variance = 0;
  for (const double g : noise) variance += g * g / kCount;
  EXPECT_NEAR(mean, 0, 1e-9);
  EXPECT_NEAR(variance, 4 * M_PI * M_PI / 6, 0.3);
  EXPECT_EQ(noise, ChoiceNoise(Seed{5}, 7, kCount, 2));
  EXPECT_NE(noise, ChoiceNoise(Seed{5}, 8, kCount, 2));
  EXPECT_EQ(ChoiceNoise(Seed{5}, 7, 3, 0), std::vector<double>(3));
}

TEST(ChoiceForms, FormsComeBack) {
  const ChoiceForms forms = Fitted();
  const auto back = ParseChoiceForms(FormatChoiceForms(forms));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(FormatChoiceForms(*back), FormatChoiceForms(forms));
  EXPECT_EQ(back->tables, "small");
}

TEST(ChoiceForms, RefusesBrokenForms) {
  const auto good = nlohmann::ordered_json::parse(FormatChoiceForms(Fitted()));
  const auto refused = [&](const char* field, nlohmann::ordered_json value) {
    auto json = good;
    json[field] = std::move(value);
    const auto parsed = ParseChoiceForms(json.dump());
    ASSERT_FALSE(parsed.ok()) << field;
    EXPECT_NE(parsed.error().message.find("choice"), std::string::npos) << parsed.error().message;
  };
  refused("format", "polyveil-choice/1");
  refused("low", -1);
  refused("high", "wide");
  refused("logit_bound", 0);
  refused("temperature", -1);
  refused("cleanups", 99);
  refused("rounds", nlohmann::ordered_json::array());
  refused("rounds", {{"a", 1}});
  refused("rounds", {{{"a", 1}, {"b", 0}, {"coeffs", {1, 2}}}});
  refused("norm", {{"a", 1}});
  refused("deviation", nullptr);
  refused("tables", 7);
  for (const auto& [field, value] : good.items()) {
    auto json = good;
    json.erase(field);
    EXPECT_FALSE(ParseChoiceForms(json.dump()).ok()) << field;
  }
  EXPECT_FALSE(ParseChoiceForms("").ok());
  EXPECT_FALSE(ParseChoiceForms("[]").ok());
}

TEST(ChoiceForms, RefusesAFitOfNothing) {
  EXPECT_EQ(FitChoice(SmallTables(), {}, {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(FitChoice(SmallTables(), Residuals(3, 1), {.rounds = 0}).error().code,
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace polyveil::model
