// The client's guard on made-up slots: sound ones pass, each kind of damage is named.
#include "serve/client/result_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "compile/units.h"
#include "support/random_model.h"

namespace polyveil::serve {
namespace {

using ckks::Complex;

ResultShape ShapeOf(const model::Decoder& decoder) {
  const compile::ResidualUnits units = compile::MakeResidualUnits(decoder);
  return {decoder.width(), units.result(), runtime::BoundsOfResult(decoder, units)};
}

struct Fixture {
  model::Decoder decoder = model::DecoderOfBundle(testing::RandomModel({}, 1));
  ckks::ParametersPtr params =
      ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
  ResultGuard guard{ShapeOf(decoder), *params};
  double unit = compile::MakeResidualUnits(decoder).result();

  // Copies of values in [-0.9, 0.9] with a tenth of the noise that is allowed.
  std::vector<Complex> Slots() const {
    std::mt19937_64 random(5);
    std::uniform_real_distribution<double> uniform(-1, 1);
    std::vector<double> values(static_cast<size_t>(decoder.width()));
    for (double& v : values) v = 0.9 * uniform(random);
    std::vector<Complex> slots(params->slots());
    for (size_t j = 0; j < slots.size(); ++j)
      slots[j] = Complex(values[j % values.size()] + 0.1 * guard.limits().copies * uniform(random),
                         0.1 * guard.limits().imaginary * uniform(random));
    return slots;
  }
};

TEST(ResultGuard, ReadsTheMeansOfTheCopiesInTheBundlesUnit) {
  const Fixture f;
  const auto slots = f.Slots();
  const auto values = f.guard.Read(slots, 1);
  ASSERT_TRUE(values.ok()) << values.error().message;
  ASSERT_EQ(values->size(), static_cast<size_t>(f.decoder.width()));
  for (size_t i = 0; i < values->size(); ++i)
    EXPECT_NEAR((*values)[i], f.unit * slots[i].real(), f.unit * f.guard.limits().copies);
}

TEST(ResultGuard, LimitsAreFarAboveNoiseAndFarBelowValues) {
  Fixture f;
  EXPECT_GT(f.guard.limits().copies, 0);
  EXPECT_LE(f.guard.limits().copies, f.guard.limits().imaginary);
  for (model::Block& block : f.decoder.blocks) {
    model::LayerBounds& bounds = block.forms.bounds;
    bounds.attn_out = bounds.head_out = bounds.ffn_out = 1;
  }
  const auto decode =
      MakeResultLimits(ShapeOf(f.decoder),
                       *ckks::Parameters::Create(ckks::FindParameters("decode16").value()).value());
  EXPECT_LT(decode.copies, 0x1p-7);
  EXPECT_LT(decode.imaginary, 0x1p-4);
}

TEST(ResultGuard, NamesEachKindOfDamage) {
  const Fixture f;
  const ResultLimits& limits = f.guard.limits();
  const auto refused = [&](auto&& damage) {
    auto slots = f.Slots();
    damage(slots);
    const auto result = f.guard.Read(slots, 7);
    EXPECT_FALSE(result.ok());
    if (result.ok()) return std::string();
    EXPECT_EQ(result.error().code, ErrorCode::kUntrustedResult);
    EXPECT_NE(result.error().message.find("at token 7"), std::string::npos);
    return result.error().message;
  };
  const auto d = static_cast<size_t>(f.decoder.width());
  EXPECT_NE(refused([&](auto& s) {
              for (size_t j = 3; j < s.size(); j += d) s[j] = 1 + 2 * limits.magnitude;
            }).find("largest |value|"),
            std::string::npos);
  EXPECT_NE(refused([&](auto& s) { s[17] += 2 * limits.copies; }).find("between copies"),
            std::string::npos);
  EXPECT_NE(refused([&](auto& s) { s[17] += Complex(0, 2 * limits.imaginary); }).find("imaginary"),
            std::string::npos);
  for (const double bad : {double{NAN}, double{INFINITY}, -double{INFINITY}})
    for (const Complex value : {Complex(bad, 0), Complex(0, bad)})
      refused([&](auto& s) { s[100] = value; });
}

// The root mean square is bounded by the last norm's interval and what the feed-forward adds.
TEST(ResultGuard, UsesOrdinaryMagnitudesWhereTheBundleKnowsThem) {
  Fixture f;
  EXPECT_TRUE(std::isinf(f.guard.limits().mean_square));
  f.decoder.residual_bound = 1000;  // a bound that says nothing
  f.decoder.blocks.back().forms.bounds.ffn_out = 1;
  const ResultGuard guard(ShapeOf(f.decoder), *f.params);
  const double unit = compile::MakeResidualUnits(f.decoder).result();
  const double limit = std::sqrt(f.decoder.blocks.back().forms.norm2.b) + 1;  // 3
  const auto message = [&](double value) {
    const auto result = guard.Read(std::vector<Complex>(f.params->slots(), value / unit), 1);
    return result.ok() ? std::string() : result.error().message;
  };
  EXPECT_EQ(message(0.99 * limit), "");
  EXPECT_NE(message(1.01 * limit).find("mean square"), std::string::npos);
}

TEST(ResultGuard, ExpectsPaddingToBeEmpty) {
  Fixture f;
  for (model::Block& block : f.decoder.blocks) block.shape.d_model = 12;  // periods of 16
  const ResultGuard guard(ShapeOf(f.decoder), *f.params);
  std::vector<Complex> slots(f.params->slots());
  for (size_t j = 0; j < slots.size(); ++j) slots[j] = j % 16 < 12 ? 0.5 : 0;
  ASSERT_TRUE(guard.Read(slots, 1).ok());
  EXPECT_EQ(guard.Read(slots, 1)->size(), 12u);
  for (size_t j = 13; j < slots.size(); j += 16) slots[j] = 2 * guard.limits().imaginary;
  EXPECT_NE(guard.Read(slots, 1).error().message.find("padding"), std::string::npos);
}

// A config whose numbers say nothing allows nothing.
TEST(ResultGuard, LimitsThatAreNoNumbersRefuse) {
  Fixture f;
  f.decoder.blocks.back().forms.norm2.a = -1;
  const ResultGuard guard(ShapeOf(f.decoder), *f.params);
  EXPECT_FALSE(guard.Read(f.Slots(), 1).ok());
}

TEST(ResultGuard, RefusesSlotsThatAreNoPeriods) {
  const Fixture f;
  EXPECT_EQ(f.guard.Read({}, 1).error().code, ErrorCode::kMismatch);
  EXPECT_EQ(f.guard.Read(std::vector<Complex>(17), 1).error().code, ErrorCode::kMismatch);
}

TEST(ResultGuard, ReadsTokensAtOnceAndNamesTheFirstBadOne) {
  const Fixture f;
  const int width = f.decoder.width(), rows = static_cast<int>(std::bit_ceil(unsigned(width)));
  const compile::TokenLayout layout{f.params->slots(), f.params->slots() / rows, 6};
  std::vector<std::vector<double>> tokens;
  for (int t = 0; t < 4; ++t)
    tokens.emplace_back(static_cast<size_t>(width), f.unit * (0.1 + 0.2 * t));
  const auto sound = compile::PackTokens(tokens, layout, f.unit);
  const auto read = f.guard.ReadTokens(sound, layout, 4);
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (size_t t = 0; t < tokens.size(); ++t)
    EXPECT_NEAR((*read)[t].back(), tokens[t].back(), 1e-12);
  const size_t size = static_cast<size_t>(layout.size), half = size / 2;
  const auto message = [&](size_t slot, Complex value) {
    auto slots = sound;
    slots[0][slot] = value;
    const auto result = f.guard.ReadTokens(slots, layout, 4);
    return result.ok() ? std::string() : result.error().message;
  };
  EXPECT_NE(message(1, 0.9).find("at token 2: difference between copies"), std::string::npos);
  EXPECT_NE(message(size + half + 2, Complex(0.5, 0.5)).find("at token 3"), std::string::npos);
  EXPECT_NE(message(5, 0.9).find("at token 4"), std::string::npos);  // a copy of the last
  EXPECT_NE(message(0, NAN).find("at token 1"), std::string::npos);
  EXPECT_EQ(message(7, 0.9), "");  // holds no token
}

TEST(ResultGuard, ReadsTextsDecodedTogetherAndNamesTheFirstBadOne) {
  const Fixture f;
  std::vector<std::vector<double>> texts;
  for (int t = 0; t < 3; ++t)
    texts.emplace_back(static_cast<size_t>(f.decoder.width()), f.unit * (0.1 + 0.2 * t));
  const auto period = compile::PackTexts(texts, 4, f.unit);
  std::vector<Complex> sound;
  while (sound.size() < static_cast<size_t>(f.params->slots()))
    sound.insert(sound.end(), period.begin(), period.end());
  for (const auto& slots : {sound, std::vector<Complex>(period.begin(), period.end())}) {
    const auto read = f.guard.ReadTexts(slots, 4, 3, 7);
    ASSERT_TRUE(read.ok()) << read.error().message;
    ASSERT_EQ(read->size(), 3u);
    for (size_t t = 0; t < 3; ++t) EXPECT_NEAR((*read)[t].back(), texts[t].back(), 1e-12);
  }
  const auto message = [&](size_t slot, Complex value) {
    auto slots = sound;
    slots[slot] = value;
    const auto result = f.guard.ReadTexts(slots, 4, 3, 7);
    return result.ok() ? std::string() : result.error().message;
  };
  EXPECT_NE(message(5, 0.9).find("at token 7 of text 2: difference"), std::string::npos);
  EXPECT_NE(message(3, 0.9).find("of text 3"), std::string::npos);  // its copy
  EXPECT_NE(message(0, NAN).find("of text 1"), std::string::npos);
  EXPECT_EQ(f.guard.ReadTexts(std::vector<Complex>(17), 4, 3, 1).error().code,
            ErrorCode::kMismatch);
}

TEST(ResultGuard, ReadsTokensInBlocksOfTwoCiphertexts) {
  const Fixture f;
  const int width = f.decoder.width(), block = static_cast<int>(std::bit_ceil(unsigned(width)));
  const int blocks = f.params->slots() / block;
  const compile::TokenLayout layout{f.params->slots(), blocks, 3 * blocks, true};
  ASSERT_EQ(layout.ciphertexts(), 2);
  std::vector<std::vector<double>> tokens;
  for (int t = 0; t < 2 * blocks + 1; ++t)
    tokens.emplace_back(static_cast<size_t>(width), f.unit * (t % 7) / 10);
  const int count = static_cast<int>(tokens.size());
  auto slots = compile::PackTokens(tokens, layout, f.unit);
  ASSERT_EQ(slots.size(), 2u);
  const auto read = f.guard.ReadTokens(slots, layout, count);
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (size_t t = 0; t < tokens.size(); ++t)
    EXPECT_NEAR((*read)[t].back(), tokens[t].back(), 1e-12);
  EXPECT_EQ(f.guard.ReadTokens({slots[0]}, layout, count).error().code, ErrorCode::kMismatch);
  slots[1].back() += Complex(0, 0.5);  // a copy of the last, or its padding
  EXPECT_NE(f.guard.ReadTokens(slots, layout, count)
                .error()
                .message.find(fmt::format("at token {}:", count)),
            std::string::npos);
}

TEST(ResultGuard, ReadsTokensInBlocksTwoInASlot) {
  const Fixture f;
  const int width = f.decoder.width(), block = static_cast<int>(std::bit_ceil(unsigned(width)));
  const compile::TokenLayout layout{f.params->slots(), f.params->slots() / block, 40, true};
  std::vector<std::vector<double>> tokens;
  for (int t = 0; t < layout.size + 2; ++t)
    tokens.emplace_back(static_cast<size_t>(width), f.unit * 0.01 * t);
  const int count = static_cast<int>(tokens.size());
  auto slots = compile::PackTokens(tokens, layout, f.unit);
  const auto read = f.guard.ReadTokens(slots, layout, count);
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (size_t t = 0; t < tokens.size(); ++t)
    EXPECT_NEAR((*read)[t].back(), tokens[t].back(), 1e-12);
  slots[0][static_cast<size_t>(3 * block)] += Complex(0, 0.5);  // a copy of the last
  const auto bad = f.guard.ReadTokens(slots, layout, count);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message.find(fmt::format("at token {}: difference", count)),
            std::string::npos)
      << bad.error().message;
}

}  // namespace
}  // namespace polyveil::serve
