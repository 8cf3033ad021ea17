// A prompt's tokens at once: against the float64 blocks, and decoding that goes on behind them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_block.h"

namespace polyveil::runtime {
namespace {

// As wide as their heads: what one ciphertext takes.
std::vector<model::BlockShape> Shapes() {
  model::BlockShape plain = testing::Gpt2Shape();
  model::BlockShape gated = plain;
  gated.gated = true;
  gated.activation = model::BlockActivation::kSilu;
  model::BlockShape bilinear = gated;
  bilinear.activation = model::BlockActivation::kIdentity;
  bilinear.biases = false;
  bilinear.centred = false;
  model::BlockShape padded = bilinear;  // heads, features and hidden values
  padded.n_heads = 3;
  padded.n_kv_heads = 1;
  padded.d_model = 12;
  padded.d_ff = 20;
  model::BlockShape parallel = gated;
  parallel.parallel = true;
  parallel.d_ff = 8;
  model::BlockShape turned = padded;  // by rotary positions, all of a head, with biases
  turned.activation = model::BlockActivation::kSilu;
  turned.biases = true;
  turned.rotary = {1.0, 0.1};
  model::BlockShape partly = testing::NeoxShape();
  partly.d_ff = 32;
  model::BlockShape adjacent = turned;
  adjacent.adjacent_pairs = true;
  return {plain, gated, bilinear, padded, parallel, turned, partly, adjacent};
}

std::shared_ptr<const model::Decoder> MakeDecoder(
    const model::BlockShape& shape, int context, int prefix = 0,
    const model::BlockFit& degrees = testing::kSmallDegrees) {
  std::vector<model::Block> blocks;
  const auto text = testing::RandomText(shape.d_model, context, 103);
  for (const std::uint64_t seed : {3, 4}) {
    model::Block block = testing::RandomBlock(shape, seed, prefix);
    block.forms = model::CalibrateBlock(block, {testing::Expected(blocks, text)}, degrees).value();
    blocks.push_back(block);
  }
  return std::make_shared<const model::Decoder>(
      model::Decoder{"test", "", std::move(blocks), context, 4});
}

double Size(const std::vector<double>& values) {
  double size = 0;
  for (const double v : values) size = std::max(size, std::abs(v));
  return size;
}

std::shared_ptr<const compile::CompiledDecoder> Compile(
    const std::shared_ptr<const model::Decoder>& decoder, const char* params = "test10") {
  return CompileModel(decoder, testing::TestParams(params), compile::MachineSpeed{},
                      {.prompts = true})
      .value();
}

// tokens of the text at once, the others one by one.
void ExpectEqual(const std::shared_ptr<const model::Decoder>& decoder, int tokens,
                 const char* params = "test10") {
  const auto step = Compile(decoder, params);
  Simulator simulator(step, NoiseModel::Zero(), 1);
  const auto prompt = step->prompts()[step->PromptFor(tokens)];
  const auto text = testing::RandomText(decoder->width(), decoder->context, 103);
  const auto expected = testing::Expected(decoder->blocks, text);
  const auto read = simulator.Read(prompt, std::span(text).first(static_cast<size_t>(tokens)));
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto actual = i < read->size() ? (*read)[i] : simulator.Step(text[i]).value();
    ASSERT_LT(LargestDifference(expected[i], actual), 1e-10 * Size(expected[i]))
        << decoder->width() << " wide, d_ff " << decoder->blocks[0].shape.d_ff << ", token " << i
        << " of a prompt of " << tokens;
  }
}

TEST(Prompt, EqualsTheBlocksAndLeavesTheirCaches) {
  for (const model::BlockShape& shape : Shapes()) {
    const auto decoder = MakeDecoder(shape, 11);
    for (const int tokens : {1, 4, 11}) ExpectEqual(decoder, tokens);
  }
  // Rows that are full to their last slot.
  ExpectEqual(MakeDecoder(Shapes()[2], 32), 32);
}

// Heads whose elements outnumber the blocks of a ciphertext: wide vectors, several ciphertexts of
// hidden values and of the cache.
std::vector<model::BlockShape> WideShapes() {
  model::BlockShape parallel = testing::WideShape();
  model::BlockShape llama = testing::LlamaShape();
  llama.d_model = 50;
  llama.d_head = 32;
  llama.d_ff = 100;
  llama.rotary.assign(16, 0.3);
  llama.rotary[3] = 1;
  llama.n_heads = 2;
  model::BlockShape biased = llama;
  biased.biases = true;
  biased.adjacent_pairs = true;
  return {parallel, llama, biased};
}

TEST(Prompt, InBlocksEqualsTheBlocksAndLeavesTheirCaches) {
  for (const model::BlockShape& shape : WideShapes()) {
    const auto decoder = MakeDecoder(shape, 18);
    for (const int tokens : {1, 7, 8, 9, 16}) ExpectEqual(decoder, tokens);
  }
  for (const int prefix : {1, 3}) {
    const auto decoder = MakeDecoder(WideShapes()[2], 21, prefix);
    for (const int tokens : {1, 8, 16}) ExpectEqual(decoder, tokens);
  }
}

// Caches take the roots that stand in blocks where decoding has the level for it, else others.
TEST(Prompt, InBlocksLeavesCachesWithRootsMovedOrMadeAgain) {
  for (const bool moved : {false, true}) {
    model::BlockFit degrees = testing::kSmallDegrees;
    if (moved) degrees.norm_degree = 15;
    const auto decoder = MakeDecoder(WideShapes()[1], 18, 2, degrees);
    EXPECT_EQ(Compile(decoder)->layout().roots_moved, moved);
    for (const int tokens : {1, 9, 16}) ExpectEqual(decoder, tokens);
  }
}

// More tokens than a ciphertext holds: two of them, halves that are whole, begun and empty.
TEST(Prompt, InTwoCiphertextsEqualsTheBlocksAndLeavesTheirCaches) {
  for (const model::BlockShape& shape : WideShapes()) {
    const auto decoder = MakeDecoder(shape, 34);
    for (const int tokens : {1, 16, 17, 24, 25, 32}) ExpectEqual(decoder, tokens);
  }
  const auto decoder = MakeDecoder(WideShapes()[2], 37, 3);
  for (const int tokens : {16, 19, 32}) ExpectEqual(decoder, tokens);
}

// Keys and values that several queries read, in one matrix: by themselves, beside the queries where
// those leave room, and as SmolLM2's nine do, the third value not in a row with the others.
TEST(Prompt, SharedHeadsInOneMatrixEqualTheBlocks) {
  model::BlockShape themselves = WideShapes()[2];
  themselves.n_heads = 4;
  themselves.n_kv_heads = 2;
  themselves.d_head = 16;
  themselves.rotary.assign(8, 0.4);
  model::BlockShape beside = themselves;
  beside.n_heads = 5;
  beside.n_kv_heads = 1;
  beside.d_head = 8;
  beside.rotary.resize(4);
  model::BlockShape still = beside;
  still.rotary.clear();
  for (const model::BlockShape& shape : {themselves, beside, still})
    for (const int tokens : {1, 8, 9}) ExpectEqual(MakeDecoder(shape, 11), tokens);
  ExpectEqual(MakeDecoder(themselves, 11, 1), 9);
  model::BlockShape nine = themselves;
  nine.n_heads = 9;
  nine.n_kv_heads = 3;
  for (const int tokens : {3, 18}) ExpectEqual(MakeDecoder(nine, 20), tokens, "test13");
}

TEST(Prompt, HasAProgramForEachNumberOfCiphertexts) {
  const auto tokens = [](const auto& program) {
    std::vector<std::pair<int, int>> result;
    for (const auto& prompt : program->prompts())
      result.emplace_back(prompt->prompt_tokens(), prompt->token_layout().ciphertexts());
    return result;
  };
  using Pairs = std::vector<std::pair<int, int>>;
  EXPECT_EQ(tokens(Compile(MakeDecoder(WideShapes()[1], 16))), (Pairs{{16, 1}}));
  EXPECT_EQ(tokens(Compile(MakeDecoder(WideShapes()[1], 20))), (Pairs{{16, 1}, {20, 2}}));
  EXPECT_EQ(tokens(Compile(MakeDecoder(WideShapes()[1], 99))), (Pairs{{16, 1}, {32, 2}}));
}

TEST(Prompt, RefusesByNameWhatNeitherLayoutTakes) {
  const auto message = [](const model::BlockShape& shape, int prefix) {
    const auto compiled = CompileModel(MakeDecoder(shape, 20, prefix), testing::TestParams(),
                                       compile::MachineSpeed{}, {.prompts = true});
    return compiled.ok() ? std::string() : compiled.error().message;
  };
  model::BlockShape hidden = Shapes()[0];  // more blocks than elements: rows or nothing
  hidden.d_ff = 40;
  EXPECT_NE(message(hidden, 0).find("d_ff = 40, at most 16"), std::string::npos);
  model::BlockShape bilinear = WideShapes()[1];
  bilinear.activation = model::BlockActivation::kIdentity;
  EXPECT_NE(message(bilinear, 0).find("bilinear feed-forwards"), std::string::npos);
  EXPECT_NE(message(WideShapes()[1], 4).find("constant tokens = 4, at most 3"), std::string::npos);
}

// An encoder of two blocks, the last norm the client's as that of a model is.
std::shared_ptr<const model::Decoder> MakeEncoder(const model::BlockShape& shape, int context) {
  std::vector<model::Block> blocks;
  const auto text = testing::RandomText(shape.d_model, context, 103);
  for (const std::uint64_t seed : {3, 4}) {
    model::Block block = testing::RandomBlock(shape, seed);
    block.shape.norm_outside = seed == 4;
    model::BlockTexts texts;  // short ones see less of each other
    for (const size_t tokens : {text.size(), size_t{1}, size_t{5}, size_t{8}})
      texts.push_back(testing::Expected(blocks, {text.begin(), text.begin() + tokens}));
    block.forms = model::CalibrateBlock(block, texts, testing::kSmallDegrees).value();
    blocks.push_back(block);
  }
  return std::make_shared<const model::Decoder>(
      model::Decoder{"test", "", std::move(blocks), context, 4});
}

// Blocks that outnumber a head's elements, heads and features padded.
model::BlockShape NarrowEncoderShape() {
  model::BlockShape shape = testing::EncoderShape();
  shape.d_model = 24;
  shape.n_heads = shape.n_kv_heads = 3;
  shape.d_head = 8;
  shape.d_ff = 50;
  return shape;
}

// Each text's own tokens, one text behind another.
std::vector<std::vector<double>> ExpectedOfTexts(const model::Decoder& encoder,
                                                 std::span<const std::vector<double>> tokens,
                                                 std::span<const int> texts) {
  std::vector<std::vector<double>> expected;
  for (const int length : texts) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(expected.size());
    for (auto& token : testing::Expected(encoder.blocks, {first, first + length}))
      expected.push_back(std::move(token));
  }
  return expected;
}

// What differs between the encoder's blocks and its simulated program without noise, relatively.
double EncoderDifference(const std::shared_ptr<const model::Decoder>& encoder,
                         const std::vector<int>& texts) {
  const auto program = Compile(encoder);
  Simulator simulator(program, NoiseModel::Zero(), 1);
  const auto all = testing::RandomText(encoder->width(), encoder->context, 103);
  const int tokens = std::accumulate(texts.begin(), texts.end(), 0);
  const auto text = std::span(all).first(static_cast<size_t>(tokens));
  const auto prompt = program->prompts()[program->PromptFor(tokens)];
  const auto read = simulator.Read(prompt, text, texts).value();
  const auto expected = ExpectedOfTexts(*encoder, text, texts);
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    worst = Worse(worst, LargestDifference(expected[i], read[i]) / Size(expected[i]));
  return worst;
}

TEST(Prompt, AnEncoderEqualsItsBlocks) {
  for (const int tokens : {1, 7, 9, 16})
    EXPECT_LT(EncoderDifference(MakeEncoder(testing::EncoderShape(), 16), {tokens}), 1e-10);
  for (const int tokens : {1, 15, 17, 32})
    EXPECT_LT(EncoderDifference(MakeEncoder(NarrowEncoderShape(), 32), {tokens}), 1e-10);
}

TEST(Prompt, AnEncoderOfTwoCiphertextsEqualsItsBlocks) {
  for (const int tokens : {16, 17, 25, 32})
    EXPECT_LT(EncoderDifference(MakeEncoder(testing::EncoderShape(), 32), {tokens}), 1e-10);
  for (const int tokens : {33, 64})
    EXPECT_LT(EncoderDifference(MakeEncoder(NarrowEncoderShape(), 64), {tokens}), 1e-10);
  EXPECT_LT(EncoderDifference(MakeEncoder(testing::EncoderShape(), 32), {4, 10, 7, 11}), 1e-10);
}

TEST(Prompt, TextsOfOneCiphertextDoNotSeeEachOther) {
  EXPECT_LT(EncoderDifference(MakeEncoder(testing::EncoderShape(), 16), {4, 4, 4, 4}), 1e-10);
  EXPECT_LT(EncoderDifference(MakeEncoder(NarrowEncoderShape(), 32), {5, 1, 20, 4}), 1e-10);
}

TEST(Prompt, AnEncoderRefusesStepsAndTextsThatDoNotFit) {
  const auto program = Compile(MakeEncoder(testing::EncoderShape(), 16));
  EXPECT_EQ(program->context(), 16);
  EXPECT_EQ(program->state_count(), 0);
  const auto message = [&](int tokens, std::vector<int> texts) {
    const auto graph = program->Program(tokens - 1, nullptr, texts);
    return graph.ok() ? std::string() : graph.error().message;
  };
  EXPECT_EQ(message(16, {8, 8}), "");
  EXPECT_NE(message(17, {}).find("17 tokens, not in 1..16"), std::string::npos);
  EXPECT_NE(Compile(MakeEncoder(testing::EncoderShape(), 11))
                ->Program(11)
                .error()
                .message.find("a text of 12 tokens among 12, context 11"),
            std::string::npos);
  EXPECT_NE(message(16, {8, 7}).find("15 tokens together, not 16"), std::string::npos);
  EXPECT_NE(message(8, {8, 0}).find("a text of 0 tokens"), std::string::npos);
  const auto decoder = Compile(MakeDecoder(Shapes()[0], 11));
  EXPECT_FALSE(decoder->prompts()[0]->Program(3, nullptr, std::vector<int>{2, 2}).ok());
}

// Largest difference from the blocks, of tokens read at once and of those decoded behind them.
template <typename Read, typename Step>
std::pair<double, double> Errors(const model::Decoder& decoder, size_t tokens, Read&& read,
                                 Step&& step) {
  const auto text = testing::RandomText(decoder.width(), decoder.context, 103);
  const auto expected = testing::Expected(decoder.blocks, text);
  const auto first = read(std::span(text).first(tokens));
  std::pair<double, double> errors;
  for (size_t i = 0; i < text.size(); ++i) {
    double& worst = i < tokens ? errors.first : errors.second;
    worst = Worse(worst, LargestDifference(expected[i], i < tokens ? first[i] : step(text[i])));
  }
  return errors;
}

void ExpectWithinPredictedNoise(const std::shared_ptr<const model::Decoder>& decoder,
                                size_t tokens) {
  const auto step = Compile(decoder);
  const auto prompt = step->prompts()[step->PromptFor(static_cast<int>(tokens))];
  std::pair<double, double> predicted;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Simulator simulator(step, NoiseModel::ForParameters(*step->params()), seed);
    const auto [read, stepped] = Errors(
        *decoder, tokens, [&](auto text) { return simulator.Read(prompt, text).value(); },
        [&](const auto& token) { return simulator.Step(token).value(); });
    predicted = {Worse(predicted.first, read), Worse(predicted.second, stepped)};
  }
  testing::EncryptedRun run(step);
  const auto [read, stepped] = Errors(
      *decoder, tokens, [&](auto text) { return run.Read(prompt, text); },
      [&](const auto& token) {
        return run.Decrypt(run.session().Step(run.Encrypt(token), {}).value());
      });
  EXPECT_LT(read, 2 * predicted.first);
  EXPECT_LT(stepped, 2 * predicted.second);
  EXPECT_EQ(run.session().position(), decoder->context);
  ::testing::Test::RecordProperty("read", std::to_string(read));
  ::testing::Test::RecordProperty("predicted", std::to_string(predicted.first));
}

TEST(Prompt, OnCiphertextsWithinPredictedNoise) {
  ExpectWithinPredictedNoise(MakeDecoder(Shapes()[2], 7), 5);
  ExpectWithinPredictedNoise(MakeDecoder(Shapes()[6], 7), 5);
}

TEST(Prompt, InBlocksOnCiphertextsWithinPredictedNoise) {
  ExpectWithinPredictedNoise(MakeDecoder(WideShapes()[1], 11, 2), 9);
}

TEST(Prompt, InTwoCiphertextsOnCiphertextsWithinPredictedNoise) {
  ExpectWithinPredictedNoise(MakeDecoder(WideShapes()[1], 23, 2), 21);
}

void ExpectEncoderWithinPredictedNoise(const std::shared_ptr<const model::Decoder>& encoder,
                                       const std::vector<std::vector<int>>& many) {
  const auto program = Compile(encoder);
  const auto text = testing::RandomText(encoder->width(), encoder->context, 103);
  for (const std::vector<int>& texts : many) {
    const int tokens = std::accumulate(texts.begin(), texts.end(), 0);
    const auto some = std::span(text).first(static_cast<size_t>(tokens));
    const auto expected = ExpectedOfTexts(*encoder, some, texts);
    const auto error = [&](const std::vector<std::vector<double>>& read) {
      double worst = 0;
      for (size_t i = 0; i < expected.size(); ++i)
        worst = Worse(worst, LargestDifference(expected[i], read[i]));
      return worst;
    };
    const auto prompt = program->prompts()[program->PromptFor(tokens)];
    double predicted = 0;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      Simulator simulator(program, NoiseModel::ForParameters(*program->params()), seed);
      predicted = Worse(predicted, error(simulator.Read(prompt, some, texts).value()));
    }
    testing::EncryptedRun run(program);
    const double measured = error(run.Read(prompt, some, texts));
    EXPECT_LT(measured, 2 * predicted);
    ::testing::Test::RecordProperty("read", std::to_string(measured));
    ::testing::Test::RecordProperty("predicted", std::to_string(predicted));
    const auto step = run.session().Step(run.Encrypt(text[0]), {});
    EXPECT_EQ(step.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Prompt, AnEncoderOnCiphertextsWithinPredictedNoise) {
  ExpectEncoderWithinPredictedNoise(MakeEncoder(NarrowEncoderShape(), 32), {{32}, {11, 20}});
}

TEST(Prompt, AnEncoderInTwoCiphertextsWithinPredictedNoise) {
  ExpectEncoderWithinPredictedNoise(MakeEncoder(testing::EncoderShape(), 32), {{31}, {9, 14}});
}

// A head of three labels fitted to the first tokens of a few texts.
std::shared_ptr<const model::Decoder> WithHead(const model::Decoder& encoder) {
  const int width = encoder.width();
  const auto matrix = [&](int rows, std::uint64_t seed) {
    model::Matrix m{rows, width, {}};
    for (auto& row : testing::RandomText(width, rows, seed))
      for (const double value : row) m.values.push_back(value / std::sqrt(width));
    return m;
  };
  model::EncoderHead head{
      matrix(width, 21), matrix(3, 22), std::vector<double>(width, 0.1), {0.3, -0.2, 0.1}, {}};
  std::vector<std::vector<double>> tokens;
  for (const std::uint64_t seed : {103, 104, 105, 106})
    for (const int length : {1, 9, 20}) {
      const auto text = testing::RandomText(width, length, seed);
      tokens.push_back(model::Normalised(encoder.blocks.back().forms.norm2,
                                         testing::Expected(encoder.blocks, text).front()));
    }
  head.forms = model::FitHead(head, tokens, 2, 15).value();
  auto with = std::make_shared<model::Decoder>(encoder);
  with->head = std::make_shared<const model::EncoderHead>(std::move(head));
  return with;
}

// The largest difference of the texts' logits from float64, as a share of the largest.
double LogitsDifference(const model::Decoder& encoder, std::span<const std::vector<double>> tokens,
                        const std::vector<int>& texts,
                        const std::vector<std::vector<double>>& read) {
  double worst = 0, size = 0;
  size_t first = 0;
  for (const int length : texts) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
    const auto residual = testing::Expected(encoder.blocks, {begin, begin + length}).front();
    const auto expected =
        encoder.head->Logits(model::Normalised(encoder.blocks.back().forms.norm2, residual));
    worst = Worse(worst, LargestDifference(expected, read[first]));
    size = std::max(size, Size(expected));
    first += static_cast<size_t>(length);
  }
  return worst / size;
}

TEST(Prompt, AHeadOnTheServerGivesTheFirstTokensLogits) {
  const auto encoder = WithHead(*MakeEncoder(testing::EncoderShape(), 32));
  const auto program = Compile(encoder);
  EXPECT_EQ(program->result_width(), 3);
  EXPECT_NE(program->digest(), Compile(MakeEncoder(testing::EncoderShape(), 32))->digest());
  const auto text = testing::RandomText(encoder->width(), 32, 103);
  for (const std::vector<int>& texts :
       {std::vector<int>{1}, {9}, {4, 1, 5}, {20}, {9, 9, 1}, {31, 1}}) {
    const int count = std::accumulate(texts.begin(), texts.end(), 0);
    const auto some = std::span(text).first(static_cast<size_t>(count));
    Simulator simulator(program, NoiseModel::Zero(), 1);
    const auto read = simulator.Read(program->prompts()[program->PromptFor(count)], some, texts);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_LT(LogitsDifference(*encoder, some, texts, *read), 1e-9);
  }
}

TEST(Prompt, AHeadOnTheServerOnCiphertextsWithinPredictedNoise) {
  const auto encoder = WithHead(*MakeEncoder(testing::EncoderShape(), 16));
  const auto program = Compile(encoder);
  const auto text = testing::RandomText(encoder->width(), 13, 103);
  const std::vector<int> texts = {9, 4};
  const auto difference = [&](const std::vector<std::vector<double>>& read) {
    return LogitsDifference(*encoder, text, texts, read);
  };
  double predicted = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    Simulator simulator(program, NoiseModel::ForParameters(*program->params()), seed);
    predicted =
        Worse(predicted, difference(simulator.Read(program->prompts()[0], text, texts).value()));
  }
  testing::EncryptedRun run(program);
  EXPECT_LT(difference(run.Read(program->prompts()[0], text, texts)), 2 * predicted);
}

// What a later token is reaches no earlier one, of either ciphertext, and every token behind it.
TEST(Prompt, LaterTokensOfTwoCiphertextsLeaveEarlierOnesAlone) {
  const auto decoder = MakeDecoder(WideShapes()[1], 32);
  const auto program = Compile(decoder);
  const auto read = [&](const std::vector<std::vector<double>>& text) {
    Simulator simulator(program, NoiseModel::Zero(), 1);
    return simulator.Read(program->prompts()[1], text).value();
  };
  auto text = testing::RandomText(decoder->width(), 32, 103);
  const auto before = read(text);
  for (const size_t changed : {5UL, 12UL, 17UL, 29UL}) {
    auto other = text;
    other[changed] = testing::RandomText(decoder->width(), 1, 7).front();
    const auto after = read(other);
    for (size_t i = 0; i < changed; ++i)
      EXPECT_LT(LargestDifference(after[i], before[i]), 1e-10 * Size(before[i])) << i;
    for (size_t i = changed; i < after.size(); ++i)
      EXPECT_GT(LargestDifference(after[i], before[i]), 1e-6 * Size(before[i])) << i;
  }
}

}  // namespace
}  // namespace polyveil::runtime
