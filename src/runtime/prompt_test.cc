// A prompt's tokens at once: against the float64 blocks, and decoding that goes on behind them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

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

std::shared_ptr<const model::Decoder> MakeDecoder(const model::BlockShape& shape, int context,
                                                  int prefix = 0) {
  std::vector<model::Block> blocks;
  const auto text = testing::RandomText(shape.d_model, context, 103);
  for (const std::uint64_t seed : {3, 4}) {
    model::Block block = testing::RandomBlock(shape, seed, prefix);
    block.forms =
        model::CalibrateBlock(block, {testing::Expected(blocks, text)}, testing::kSmallDegrees)
            .value();
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
    const std::shared_ptr<const model::Decoder>& decoder) {
  return CompileModel(decoder, testing::TestParams(), compile::MachineSpeed{}, {.prompts = true})
      .value();
}

// tokens of the text at once, the others one by one.
void ExpectEqual(const std::shared_ptr<const model::Decoder>& decoder, int tokens) {
  const auto step = Compile(decoder);
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
  EXPECT_NE(message(WideShapes()[1], 5).find("constant tokens = 5, at most 4"), std::string::npos);
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

}  // namespace
}  // namespace polyveil::runtime
