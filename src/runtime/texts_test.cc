// Texts that are decoded together: each against the float64 blocks as if it were alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_block.h"

namespace polyveil::runtime::together {
namespace {

using Text = std::vector<std::vector<double>>;

std::shared_ptr<const model::Decoder> DecoderOf(const model::BlockShape& shape, int context,
                                                int prefix, const model::AttentionForm& form = {}) {
  // Sums without a mean grow with the text.
  constexpr model::BlockFit kWide = {
      .margin = 8, .norm_degree = 7, .divisor_degree = 7, .activation_degree = 7};
  std::vector<model::Block> blocks = {testing::RandomBlock(shape, 3, prefix, kWide, form)};
  return std::make_shared<const model::Decoder>(
      model::Decoder{"test", "", std::move(blocks), context, 4});
}

std::shared_ptr<const compile::CompiledDecoder> Compile(
    const std::shared_ptr<const model::Decoder>& decoder,
    const compile::DecoderPrograms& programs) {
  auto compiled = CompileModel(decoder, testing::TestParams(), compile::MachineSpeed{}, programs);
  PV_CHECK(compiled.ok(), "{}", compiled.error().message);
  return *compiled;
}

std::vector<Text> RandomTexts(const model::Decoder& decoder, int count) {
  std::vector<Text> texts;
  for (int t = 0; t < count; ++t)
    texts.push_back(
        testing::RandomText(decoder.width(), decoder.context, 103 + static_cast<std::uint64_t>(t)));
  return texts;
}

// What each text feeds at a step.
Text Tokens(const std::vector<Text>& texts, size_t step) {
  Text tokens;
  for (const Text& text : texts) tokens.push_back(text[step]);
  return tokens;
}

double Size(const std::vector<double>& values) {
  double size = 0;
  for (const double v : values) size = std::max(size, std::abs(v));
  return size;
}

// Without noise, `count` texts in a program of `room`; behind public tokens of all of them.
void ExpectEqual(const std::shared_ptr<const model::Decoder>& decoder, int room, int count,
                 int known = 0, int in_matrices = 0) {
  const auto program = Compile(decoder, {.known = in_matrices, .texts = room});
  Simulator simulator(program, NoiseModel::Zero(), 1);
  std::vector<Text> texts = RandomTexts(*decoder, count);
  for (Text& text : texts) std::copy_n(texts[0].begin(), known, text.begin());
  if (known > 0) {
    const Text shared(texts[0].begin(), texts[0].begin() + known);
    ASSERT_TRUE(simulator.Reset(model::ComputePublicContext(*decoder, shared).value()).ok());
  }
  std::vector<Text> expected;
  for (const Text& text : texts) expected.push_back(testing::Expected(decoder->blocks, text));
  for (size_t i = static_cast<size_t>(known); i < texts[0].size(); ++i) {
    const auto actual = simulator.StepTexts(Tokens(texts, i));
    ASSERT_TRUE(actual.ok()) << actual.error().message;
    for (size_t t = 0; t < texts.size(); ++t)
      ASSERT_LT(LargestDifference(expected[t][i], (*actual)[t]), 1e-10 * Size(expected[t][i]))
          << decoder->width() << " wide, " << count << " texts of " << room << ", text " << t
          << ", token " << i;
  }
}

TEST(Texts, EachEqualsTheBlockAsIfItWereAlone) {
  model::BlockShape bilinear = testing::BilinearShape();
  for (const auto& shape : {testing::LlamaShape(), testing::BiasedLlamaShape(), bilinear,
                            testing::NeoxShape(), testing::Gpt2Shape()})
    for (const int prefix : {0, 2}) ExpectEqual(DecoderOf(shape, 6, prefix), 4, 4);
  ExpectEqual(DecoderOf(testing::WideShape(), 5, 1), 2, 2);
  // Fewer texts than have room; rows of one key each.
  ExpectEqual(DecoderOf(testing::Gpt2Shape(), 6, 0), 8, 5);
  ExpectEqual(DecoderOf(testing::LlamaShape(), 3, 0), 16, 16);
}

// Masks by head, head norms: whatever reads a slot's place.
TEST(Texts, FormsOfAttentionHaveThem) {
  const auto root = [](double v) { return 1 / std::sqrt(v); };
  const auto wide = approx::Interpolate(root, 0.02, 8, 7);
  model::AttentionForm powers, norm, pointwise;
  powers.mean = false;
  powers.powers = {2, 4, 6};
  norm.qk_norm = model::QkNorm{wide, wide, {0.3, 0.3, 0.3}};
  pointwise.kind = model::AttentionKind::kPointwise;
  model::AttentionForm exponential, square;
  exponential.kind = model::AttentionKind::kExponential;
  exponential.squarings = 2;
  exponential.exponential =
      approx::Interpolate([](double z) { return std::exp(z / 4); }, -12, 12, 7);
  square.kind = model::AttentionKind::kNormaliseSquare;
  square.exponential = exponential.exponential;
  // Of every text: what leaves an interval grows to the fourth power from round to round.
  square.rounds = {approx::Interpolate(root, 0.1, 250, 7), approx::Interpolate(root, 0.1, 40, 7)};
  for (const auto& [name, form] : {std::pair{"powers", powers},
                                   {"QK-norm", norm},
                                   {"pointwise", pointwise},
                                   {"exponential", exponential},
                                   {"normalise-square", square}}) {
    SCOPED_TRACE(name);
    ExpectEqual(DecoderOf(testing::LlamaShape(), 6, 2, form), 4, 3);
  }
}

TEST(Texts, BehindPublicTokensThatTheyShare) {
  const auto decoder = DecoderOf(testing::LlamaShape(), 24, 1);
  ExpectEqual(decoder, 4, 3, 5);
  ExpectEqual(decoder, 4, 3, 12, 12);  // groups of 4 keys: 512 slots / 4 texts / 16 rows / 2
}

// A token of one text changes nothing of the others, to the last bit without noise.
TEST(Texts, OneLeavesTheOthersAlone) {
  const auto decoder = DecoderOf(testing::LlamaShape(), 4, 0);
  const auto program = Compile(decoder, {.texts = 4});
  const auto run = [&](const std::vector<Text>& texts) {
    Simulator simulator(program, NoiseModel::Zero(), 1);
    Text last;
    for (size_t i = 0; i < 4; ++i) last = simulator.StepTexts(Tokens(texts, i)).value();
    return last;
  };
  std::vector<Text> texts = RandomTexts(*decoder, 4);
  const Text before = run(texts);
  texts[2][1] = testing::RandomText(decoder->width(), 1, 7)[0];
  const Text after = run(texts);
  for (const size_t t : {0, 1, 3}) EXPECT_EQ(before[t], after[t]) << t;
  EXPECT_GT(LargestDifference(before[2], after[2]), 1e-6);
}

// Nor does one that leaves an interval and overflows: without noise no other text is touched.
TEST(Texts, OneThatOverflowsLeavesTheOthersAlone) {
  const auto decoder = DecoderOf(testing::LlamaShape(), 2, 0);
  Simulator simulator(Compile(decoder, {.texts = 4}), NoiseModel::Zero(), 1);
  std::vector<Text> texts = RandomTexts(*decoder, 4);
  for (double& x : texts[2][0]) x *= 1e60;
  const auto last = simulator.StepTexts(Tokens(texts, 0)).value();
  EXPECT_GT(simulator.escapes().at("layer 0 / attention / inverse root").worst, 1e100);
  for (const size_t t : {0, 1, 3}) {
    const auto expected = testing::Expected(decoder->blocks, {texts[t][0]})[0];
    EXPECT_LT(LargestDifference(expected, last[t]), 1e-10 * Size(expected)) << t;
  }
  EXPECT_FALSE(std::isfinite(last[2][0]));
}

TEST(Texts, OnCiphertextsWithinPredictedNoise) {
  const testing::RandomModelShape shape{.context = 6};
  const auto decoder = testing::RandomDecoder(shape, 5);
  testing::EncryptedRun run(Compile(decoder, {.texts = 8}));
  EXPECT_GT(run.model()->estimate().bootstraps_per_token, 0);
  const std::vector<Text> texts = RandomTexts(*decoder, 7);
  double tolerance = 0;  // as DecoderSession's test: twice the worst of some simulated runs
  for (size_t t = 0; t < 2; ++t) {
    const Text beginning(texts[t].begin(), texts[t].begin() + 2);
    tolerance = std::max(tolerance, 2 * testing::PredictedError(run.model(), *decoder, beginning));
  }
  std::vector<model::DecoderReference> references(texts.size(), model::DecoderReference(*decoder));
  for (size_t i = 0; i < 2; ++i) {
    const auto out = run.session().Step(run.EncryptTexts(Tokens(texts, i)), {});
    ASSERT_TRUE(out.ok()) << out.error().message;
    for (size_t t = 0; t < texts.size(); ++t)
      EXPECT_LT(LargestDifference(*references[t].Step(texts[t][i]),
                                  run.Decrypt(*out, static_cast<int>(t))),
                tolerance)
          << "text " << t << ", token " << i;
  }
}

TEST(Texts, ThoseWithoutRoomAreRefused) {
  const auto decoder = DecoderOf(testing::LlamaShape(), 4, 0);
  const auto refusal = [&](const compile::DecoderPrograms& programs) {
    const auto compiled =
        CompileModel(decoder, testing::TestParams(), compile::MachineSpeed{}, programs);
    return compiled.ok() ? "" : compiled.error().message;
  };
  EXPECT_NE(refusal({.texts = 32}).find("texts = 32: a ciphertext of 512 slots holds 16"),
            std::string::npos)
      << refusal({.texts = 32});
  EXPECT_NE(refusal({.texts = 3}).find("texts = 3: a power of two"), std::string::npos);
  EXPECT_NE(refusal({.prompts = true, .texts = 2}).find("no prompts at once"), std::string::npos);
  EXPECT_EQ(refusal({.texts = 16}), "");
  Simulator simulator(Compile(decoder, {.texts = 2}), NoiseModel::Zero(), 1);
  const Text three = testing::RandomText(decoder->width(), 3, 1);
  EXPECT_EQ(simulator.StepTexts(three).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(simulator.StepTexts({}).error().code, ErrorCode::kOutOfRange);
}

// A program of one text is what it was: its digest, which keys are made for.
TEST(Texts, AProgramOfOneTextIsTheUsualOne) {
  const auto decoder = DecoderOf(testing::LlamaShape(), 4, 0);
  EXPECT_EQ(Compile(decoder, {})->digest(), Compile(decoder, {.texts = 1})->digest());
  EXPECT_NE(Compile(decoder, {})->digest(), Compile(decoder, {.texts = 2})->digest());
}

TEST(Texts, LevelsAlongTheProgramAreThoseOfItsValues) {
  const auto program = Compile(DecoderOf(testing::LlamaShape(), 4, 0), {.texts = 2});
  const auto graph = program->Program(0).value();
  const auto& stages = program->estimate().levels;
  ASSERT_FALSE(stages.empty());
  int lowest = 100, bootstraps = 0;
  for (const auto& stage : stages) {
    const bool raises = stage.component == compile::Component::kBootstrap;
    bootstraps += raises;
    EXPECT_EQ(raises, stage.from < stage.to);
    lowest = std::min({lowest, stage.from, stage.to});
  }
  EXPECT_GT(bootstraps, 0);
  EXPECT_LE(bootstraps, program->estimate().bootstraps_per_token);
  for (const auto& node : graph.nodes) EXPECT_GE(node.level, lowest);
}

}  // namespace
}  // namespace polyveil::runtime::together
