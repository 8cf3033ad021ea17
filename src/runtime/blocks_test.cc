// Blocks of released architectures: the program against the float64 block, without noise and on
// ciphertexts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "compile/compiled_decoder.h"
#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_block.h"

namespace polyveil::runtime {
namespace {

Result<std::shared_ptr<const compile::CompiledDecoder>> TryCompile(std::vector<model::Block> blocks,
                                                                   int context, int known = 0,
                                                                   std::optional<bool> apart = {}) {
  return CompileModel(std::make_shared<const model::Decoder>(
                          model::Decoder{"test", "", std::move(blocks), context, 4}),
                      testing::TestParams(), compile::MachineSpeed{},
                      {.known = known, .divisor_apart = apart});
}

std::shared_ptr<const compile::CompiledDecoder> Compile(std::vector<model::Block> blocks,
                                                        int context, int known = 0,
                                                        std::optional<bool> apart = {}) {
  auto compiled = TryCompile(std::move(blocks), context, known, apart);
  PV_CHECK(compiled.ok(), "{}", compiled.error().message);
  return *compiled;
}

struct Case {
  model::BlockShape shape;
  int context, prefix;
};

std::vector<Case> Cases() {
  return {{testing::LlamaShape(), 16, 0},      {testing::LlamaShape(), 40, 1},
          {testing::BiasedLlamaShape(), 4, 0}, {testing::NeoxShape(), 16, 0},
          {testing::NeoxShape(), 50, 20},      {testing::WideShape(), 6, 1},
          {testing::Gpt2Shape(), 8, 2}};
}

void ExpectProgramEqualsBlocks(const std::vector<model::Block>& blocks, int context,
                               std::optional<bool> apart = {}) {
  const model::Block& block = blocks.front();
  const auto compiled = Compile(blocks, context, 0, apart);
  ASSERT_EQ(compiled->context(), context);
  Simulator simulator(compiled, NoiseModel::Zero(), 1);
  const auto text = testing::RandomText(block.shape.d_model, context, 103);
  const auto expected = testing::Expected(blocks, text);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto actual = simulator.Step(text[i]);
    ASSERT_TRUE(actual.ok()) << actual.error().message;
    double size = 0;
    for (const double v : expected[i]) size = std::max(size, std::abs(v));
    EXPECT_LT(LargestDifference(expected[i], *actual), 1e-10 * size)
        << "d_model " << block.shape.d_model << ", context " << context << ", token " << i;
  }
}

void ExpectProgramEqualsBlock(const model::Block& block, int context) {
  ExpectProgramEqualsBlocks({block}, context);
}

TEST(Blocks, ProgramEqualsBlockWithoutNoise) {
  for (const Case& c : Cases())
    ExpectProgramEqualsBlock(testing::RandomBlock(c.shape, 3, c.prefix), c.context);
}

// The divisor summed by itself, over one chunk and several, behind constant tokens, beside rows
// without a head: the same block a level earlier.
TEST(Blocks, ProgramWhoseDivisorIsSummedApartEqualsBlock) {
  for (const Case& c : Cases()) {
    const model::Block block = testing::RandomBlock(c.shape, 3, c.prefix);
    ExpectProgramEqualsBlocks({block}, c.context, true);
    const auto depth = [&](bool apart) {
      return Compile({block}, c.context, 0, apart)->estimate().depth_per_token;
    };
    EXPECT_EQ(depth(true), depth(false) - 1) << c.context;
  }
}

// Of both ways the faster one by the speeds of no machine, so that all choose alike.
TEST(Blocks, TheDivisorIsSummedTheFasterWay) {
  const std::vector<model::Block> blocks(6, testing::RandomBlock(testing::LlamaShape(), 3, 1));
  const auto seconds = [&](std::optional<bool> apart) {
    return Compile(blocks, 16, 0, apart)->usual_seconds();
  };
  EXPECT_NE(seconds(false), seconds(true));
  EXPECT_EQ(seconds({}), std::min(seconds(false), seconds(true)));
}

// Units by channel are powers of two that change nothing: the first block's of its own at both
// places, the second's at one.
TEST(Blocks, ProgramEqualsBlocksWhoseChannelsHaveUnits) {
  for (const model::BlockShape& shape :
       {testing::LlamaShape(), testing::BiasedLlamaShape(), testing::NeoxShape(),
        testing::WideShape(), testing::BilinearShape()}) {
    std::vector<model::Block> blocks = {testing::RandomBlock(shape, 3, 1),
                                        testing::RandomBlock(shape, 4, 1)};
    for (int i = 0; i < shape.d_model; ++i) {
      for (model::Block& block : blocks) block.forms.bounds.out_exponents.push_back(i % 5);
      blocks[0].forms.bounds.mid_exponents.push_back((i + 2) % 3);
    }
    ExpectProgramEqualsBlocks(blocks, 4);
  }
}

// One channel a thousand times as large as the others: in one unit, bootstraps lose the others.
TEST(Blocks, ALargeChannelTakesNoPrecisionFromTheOthers) {
  model::BlockShape shape = testing::LlamaShape();
  model::BlockWeights weights = model::RandomBlockWeights(shape, 3);
  for (model::Matrix* w : {&weights.wo, &weights.down})
    for (int c = 0; c < w->cols; ++c) w->values[static_cast<size_t>(c)] *= 1000;
  for (model::Matrix* w : {&weights.wq, &weights.wk, &weights.wv, &weights.gate, &weights.up})
    for (int r = 0; r < w->rows; ++r) w->values[static_cast<size_t>(r) * w->cols] /= 1000;
  model::Block block;
  block.shape = shape;
  block.weights = std::make_shared<const model::KeptWeights>(std::move(weights));
  const auto text = testing::RandomText(shape.d_model, 3, 105);
  std::vector<model::Block> blocks;
  for (int i = 0; i < 2; ++i) {
    block.forms =
        model::CalibrateBlock(block, {testing::Expected(blocks, text)}, testing::kSmallDegrees)
            .value();
    ASSERT_EQ(block.forms.bounds.out_exponents.size(), static_cast<size_t>(shape.d_model));
    EXPECT_EQ(block.forms.bounds.out_exponents[0], 0);
    EXPECT_GE(block.forms.bounds.out_exponents[1], 3);
    blocks.push_back(block);
  }
  const auto expected = testing::Expected(blocks, text);
  const auto error = [&] {
    const auto compiled = Compile(blocks, 3);
    Simulator simulator(compiled, NoiseModel::ForParameters(*compiled->params()), 1);
    double worst = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto actual = simulator.Step(text[i]).value();
      for (size_t c = 1; c < actual.size(); ++c)
        worst = Worse(worst, std::abs(actual[c] - expected[i][c]));
    }
    return worst;
  };
  const double own = error();
  for (model::Block& one : blocks)
    for (auto* exponents : {&one.forms.bounds.mid_exponents, &one.forms.bounds.out_exponents})
      exponents->clear();
  EXPECT_LT(8 * own, error());
}

model::AttentionForm OfKind(model::AttentionKind kind) {
  model::AttentionForm form;
  form.kind = kind;
  return form;
}

// Every form of attention, over several ciphertexts of keys and behind a prefix.
std::vector<std::pair<const char*, model::AttentionForm>> Forms(int heads) {
  const auto root = [](double v) { return 1 / std::sqrt(v); };
  std::vector<std::pair<const char*, model::AttentionForm>> forms(2);
  forms[0].first = "powers by head, sum";
  forms[0].second.mean = false;
  for (int h = 0; h < heads; ++h) forms[0].second.powers.push_back(2 + 2 * (h % 3));
  forms[1].first = "QK-norm";
  const auto wide = approx::Interpolate(root, 0.02, 8, 7);
  forms[1].second.qk_norm = model::QkNorm{wide, wide, std::vector<double>(heads, 0.3)};
  forms.emplace_back("pointwise", OfKind(model::AttentionKind::kPointwise));
  auto exponential = OfKind(model::AttentionKind::kExponential);
  exponential.squarings = 2;
  exponential.exponential =
      approx::Interpolate([](double z) { return std::exp(z / 4); }, -12, 12, 7);
  forms.emplace_back("exponential", exponential);
  auto square = OfKind(model::AttentionKind::kNormaliseSquare);
  square.exponential = exponential.exponential;
  square.rounds = {approx::Interpolate(root, 0.1, 60, 7), approx::Interpolate(root, 0.5, 10, 7)};
  forms.emplace_back("normalise-square", square);
  return forms;
}

TEST(Blocks, ProgramEqualsBlockForEveryFormOfAttention) {
  // Sums without a mean grow with the text.
  constexpr model::BlockFit kWide = {
      .margin = 8, .norm_degree = 7, .divisor_degree = 7, .activation_degree = 7};
  for (const auto& [shape, context] : {std::pair{testing::LlamaShape(), 35},
                                       {testing::NeoxShape(), 20},
                                       {testing::WideShape(), 5}})
    for (const auto& [name, form] : Forms(shape.n_heads)) {
      SCOPED_TRACE(name);
      ExpectProgramEqualsBlock(testing::RandomBlock(shape, 3, 2, kWide, form), context);
    }
}

TEST(Blocks, ProgramEqualsABilinearBlockWithoutNoise) {
  model::BlockShape wide = testing::BilinearShape();
  wide.d_model = 60;
  wide.d_head = 32;
  wide.d_ff = 250;
  for (const model::BlockShape& shape : {testing::BilinearShape(), wide})
    ExpectProgramEqualsBlock(testing::RandomBlock(shape, 3, 1), 6);
}

// Client and server compare it: it covers what is computed and nothing else.
TEST(Blocks, DigestCoversEverythingThatIsComputed) {
  const model::Block block = testing::RandomBlock(testing::LlamaShape(), 3, 1);
  const auto digest = [&](auto&& change) {
    model::Decoder decoder{"test", "weights", {block, block}, 4, 4};
    change(decoder);
    return CompileModel(std::make_shared<const model::Decoder>(std::move(decoder)),
                        testing::TestParams(), compile::MachineSpeed{})
        .value()
        ->digest();
  };
  const std::string usual = digest([](auto&) {});
  EXPECT_EQ(digest([](auto& d) { d.name = "other"; }), usual);
  EXPECT_EQ(digest([](auto& d) { d.certificate = model::Certificate{}; }), usual);
  EXPECT_NE(digest([](auto& d) { d.digest = "others"; }), usual);
  EXPECT_NE(digest([](auto& d) { d.context = 5; }), usual);
  EXPECT_NE(digest([](auto& d) { d.blocks[1].forms.shift[0] += 1; }), usual);
  EXPECT_NE(digest([](auto& d) { d.blocks[1].prefix_keys[0] += 1; }), usual);
  EXPECT_NE(digest([](auto& d) { d.blocks[1].shape.rotary[0] += 1; }), usual);
}

TEST(Blocks, CiphertextsEqualBlocksWithinPredictedNoise) {
  for (const model::BlockShape& shape : {testing::LlamaShape(), testing::NeoxShape(),
                                         testing::WideShape(), testing::BilinearShape()}) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(shape, 5, 1)};
    const auto text = testing::RandomText(shape.d_model, 3, 105);
    const auto expected = testing::Expected(blocks, text);
    testing::EncryptedRun run(Compile(blocks, 3));
    // A parallel block of these degrees fits between two bootstraps.
    EXPECT_EQ(run.model()->estimate().bootstraps_per_token > 0, !shape.parallel);
    const double tolerance = 2 * testing::PredictedError(run.model(), text, expected);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto out = run.session().Step(run.Encrypt(text[i]), {});
      ASSERT_TRUE(out.ok()) << out.error().message;
      EXPECT_LT(LargestDifference(expected[i], run.Decrypt(*out)), tolerance) << "token " << i;
    }
  }
}

// The units of a converted model's divisors and norms, far from integers, come back as their
// powers.
TEST(Blocks, CiphertextsEvaluateHighDegreesWithinPredictedNoise) {
  const model::Block block = testing::RandomBlock(
      testing::LlamaShape(), 5, 1,
      {.margin = 16, .norm_degree = 63, .divisor_degree = 127, .activation_degree = 63});
  const auto text = testing::RandomText(block.shape.d_model, 2, 105);
  const auto expected = testing::Expected({block}, text);
  testing::EncryptedRun run(Compile({block}, 2));
  const double tolerance = 2 * testing::PredictedError(run.model(), text, expected);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto out = run.session().Step(run.Encrypt(text[i]), {});
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_LT(LargestDifference(expected[i], run.Decrypt(*out)), tolerance) << "token " << i;
  }
}

// Public tokens before the text, in float64; the encrypted ones behind them.
std::shared_ptr<const model::PublicContext> Publish(const model::Decoder& decoder,
                                                    const std::vector<std::vector<double>>& text,
                                                    int tokens) {
  return model::ComputePublicContext(decoder, {text.begin(), text.begin() + tokens}).value();
}

TEST(PublicContext, ProgramBehindPublicTokensEqualsBlocks) {
  for (const Case& c : Cases()) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(c.shape, 3, c.prefix)};
    const auto compiled = Compile(blocks, c.context);
    const auto text = testing::RandomText(c.shape.d_model, c.context, 103);
    const auto expected = testing::Expected(blocks, text);
    Simulator simulator(compiled, NoiseModel::Zero(), 1);
    for (const int known : {1, c.context / 2, c.context - 1}) {
      const auto context = Publish(compiled->decoder(), text, known);
      ASSERT_TRUE(simulator.Reset(context).ok());
      for (int i = known; i < std::min(c.context, known + 4); ++i) {
        const auto at = static_cast<size_t>(i);
        const auto actual = simulator.Step(text[at]);
        ASSERT_TRUE(actual.ok()) << actual.error().message;
        double size = 0;
        for (const double v : expected[at]) size = std::max(size, std::abs(v));
        EXPECT_LT(LargestDifference(expected[at], *actual), 1e-9 * size)
            << "d_model " << c.shape.d_model << ", " << known << " public, token " << i;
      }
    }
  }
}

TEST(PublicContext, CiphertextsBehindPublicTokensEqualBlocksWithinPredictedNoise) {
  // Of the second the public tokens fill one ciphertext of keys and a part of the next.
  for (const auto& [shape, prefix, known] : {std::tuple{testing::LlamaShape(), 0, 3},
                                             {testing::LlamaShape(), 2, 17},
                                             {testing::NeoxShape(), 1, 5},
                                             {testing::BilinearShape(), 0, 1}}) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(shape, 5, prefix)};
    const auto text = testing::RandomText(shape.d_model, known + 2, 105);
    const auto expected = testing::Expected(blocks, text);
    testing::EncryptedRun run(Compile(blocks, known + 2));
    const auto& decoder = dynamic_cast<const compile::CompiledDecoder&>(*run.model()).decoder();
    DecoderSession session(run.engine(), Publish(decoder, text, known));
    EXPECT_EQ(session.position(), known);
    const double tolerance = 2 * testing::PredictedError(run.model(), text, expected);
    for (int i = known; i < known + 2; ++i) {
      const auto out = session.Step(run.Encrypt(text[static_cast<size_t>(i)]), {});
      ASSERT_TRUE(out.ok()) << out.error().message;
      EXPECT_LT(LargestDifference(expected[static_cast<size_t>(i)], run.Decrypt(*out)), tolerance)
          << "token " << i;
    }
    EXPECT_EQ(session.Step(run.Encrypt(text[0]), {}).error().code, ErrorCode::kOutOfRange);
  }
}

// Queries meet public keys as matrices: every text of so many public tokens or fewer, or none.
void ExpectMatricesEqualBlock(const model::Block& block, int context, int room,
                              bool apart = false) {
  const auto compiled = Compile({block}, context, room, apart);
  const auto text = testing::RandomText(block.shape.d_model, context, 103);
  const auto expected = testing::Expected({block}, text);
  Simulator simulator(compiled, NoiseModel::Zero(), 1);
  for (const int known : {0, 1, room / 2, room}) {
    const auto public_context = Publish(compiled->decoder(), text, known);
    ASSERT_TRUE(simulator.Reset(known > 0 ? public_context : nullptr).ok());
    for (int i = known; i < std::min(context - room + known, known + 3); ++i) {
      const auto at = static_cast<size_t>(i);
      const auto actual = simulator.Step(text[at]);
      ASSERT_TRUE(actual.ok()) << actual.error().message;
      double size = 0;
      for (const double v : expected[at]) size = std::max(size, std::abs(v));
      EXPECT_LT(LargestDifference(expected[at], *actual), 1e-9 * size)
          << "d_model " << block.shape.d_model << ", " << known << " of " << room
          << " public, token " << i;
    }
  }
}

TEST(PublicContext, MatricesOfPublicKeysEqualBlocks) {
  for (const auto& [shape, prefix, room] : {std::tuple{testing::LlamaShape(), 0, 3},
                                            {testing::LlamaShape(), 1, 17},
                                            {testing::LlamaShape(), 2, 64},
                                            {testing::NeoxShape(), 1, 40},
                                            {testing::WideShape(), 1, 9},
                                            {testing::Gpt2Shape(), 0, 20},
                                            {testing::BilinearShape(), 0, 30}})
    for (const bool apart : {false, true})
      ExpectMatricesEqualBlock(testing::RandomBlock(shape, 3, prefix), room + 5, room, apart);
}

TEST(PublicContext, MatricesOfPublicKeysEqualBlocksForEveryFormOfAttention) {
  constexpr model::BlockFit kWide = {
      .margin = 8, .norm_degree = 7, .divisor_degree = 7, .activation_degree = 7};
  for (const auto& [name, form] : Forms(3)) {
    SCOPED_TRACE(name);
    ExpectMatricesEqualBlock(testing::RandomBlock(testing::LlamaShape(), 3, 2, kWide, form), 40,
                             35);
  }
}

TEST(PublicContext, CiphertextsMeetMatricesWithinPredictedNoise) {
  for (const auto& [shape, room] :
       {std::pair{testing::LlamaShape(), 20}, {testing::NeoxShape(), 18}}) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(shape, 5, 1)};
    const auto text = testing::RandomText(shape.d_model, room + 2, 105);
    const auto expected = testing::Expected(blocks, text);
    const auto compiled = Compile(blocks, room + 2, room);
    testing::EncryptedRun run(compiled);
    const double tolerance = 2 * testing::PredictedError(Compile(blocks, room + 2), text, expected);
    for (const int known : {room, room - 2}) {
      DecoderSession session(run.engine(), Publish(compiled->decoder(), text, known));
      for (int i = known; i < known + 2; ++i) {
        const auto out = session.Step(run.Encrypt(text[static_cast<size_t>(i)]), {});
        ASSERT_TRUE(out.ok()) << out.error().message;
        EXPECT_LT(LargestDifference(expected[static_cast<size_t>(i)], run.Decrypt(*out)), tolerance)
            << known << " public, token " << i;
      }
    }
  }
}

TEST(PublicContext, MatricesHaveRoomForSoManyKeys) {
  const auto block = testing::RandomBlock(testing::LlamaShape(), 3);
  const auto large = TryCompile({block}, 100, 65);
  ASSERT_FALSE(large.ok());
  EXPECT_NE(large.error().message.find("65 public keys > 64"), std::string::npos);
  EXPECT_EQ(TryCompile({block}, 8, 8).error().code, ErrorCode::kOutOfRange);
  const auto compiled = Compile({block}, 30, 20);
  const auto text = testing::RandomText(12, 30, 7);
  const auto refused = compiled->Program(21, Publish(compiled->decoder(), text, 21));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "public context: of 21 tokens, the program has room for 20");
  // Without public tokens the caches end before the context does.
  EXPECT_TRUE(compiled->Program(15).ok());
  EXPECT_EQ(compiled->Program(16).error().code, ErrorCode::kOutOfRange);
}

TEST(PublicContext, RefusesContextsOfOtherModelsAndLengths) {
  const auto compiled = Compile({testing::RandomBlock(testing::LlamaShape(), 3)}, 4);
  const auto text = testing::RandomText(12, 4, 7);
  const model::Decoder& decoder = compiled->decoder();
  const auto full = model::ComputePublicContext(decoder, text);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kOutOfRange);
  EXPECT_NE(full.error().message.find("4 tokens, the model's context of 4 has room for 3"),
            std::string::npos)
      << full.error().message;
  model::PublicContext other = *Publish(decoder, text, 2);
  other.blocks.push_back(other.blocks[0]);
  EXPECT_EQ(compiled->KnownStates(&other).error().code, ErrorCode::kMismatch);
  other = *Publish(decoder, text, 2);
  other.blocks[0].keys.pop_back();
  EXPECT_EQ(compiled->KnownStates(&other).error().code, ErrorCode::kMismatch);
  other.tokens = 9;
  EXPECT_EQ(compiled->KnownStates(&other).error().code, ErrorCode::kOutOfRange);
  auto not_a_number = text;
  not_a_number.resize(2);
  not_a_number[1][0] = NAN;
  const auto refused = model::ComputePublicContext(decoder, not_a_number);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUntrustedResult);
  EXPECT_NE(refused.error().message.find("token 2"), std::string::npos) << refused.error().message;
  EXPECT_EQ(model::ComputePublicContext(decoder, {{1.0, 2.0}}).error().code, ErrorCode::kMismatch);
}

TEST(Blocks, RefusesWhatTheLayoutCannotHold) {
  const auto refuse = [&](model::BlockShape shape, const std::string& part) {
    model::Block block = testing::RandomBlock(testing::LlamaShape(), 3);
    block.shape = shape;
    const auto compiled = TryCompile({block}, 8);
    ASSERT_FALSE(compiled.ok());
    EXPECT_NE(compiled.error().message.find(part), std::string::npos) << compiled.error().message;
  };
  model::BlockShape shape = testing::LlamaShape();
  shape.d_ff = 1000;
  refuse(shape, "d_ff = 1000 > 512 slots");
  shape = testing::LlamaShape();
  shape.d_head = 6;
  refuse(shape, "d_head = 6");
  shape = testing::LlamaShape();
  shape.d_head = 128;
  refuse(shape, "4 heads of 128 > 256");
  shape = testing::LlamaShape();
  shape.n_kv_heads = 2;
  refuse(shape, "n_kv_heads = 2");
  shape = testing::LlamaShape();
  shape.power = 3;
  refuse(shape, "power = 3");
  shape = testing::LlamaShape();
  shape.activation = model::BlockActivation::kIdentity;
  shape.biases = true;
  refuse(shape, "biases = true");
}

}  // namespace
}  // namespace polyveil::runtime
