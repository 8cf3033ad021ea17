// A prompt's tokens at once: against the float64 blocks, and decoding that goes on behind them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_block.h"

namespace polyveil::runtime {
namespace {

// Without rotary positions, as wide as its heads: what prompts at once can take.
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
  return {plain, gated, bilinear, padded, parallel};
}

std::shared_ptr<const model::Decoder> MakeDecoder(const model::BlockShape& shape, int context,
                                                  const model::AttentionForm& attention = {}) {
  std::vector<model::Block> blocks;
  const auto text = testing::RandomText(shape.d_model, context, 103);
  for (const std::uint64_t seed : {3, 4}) {
    model::Block block = testing::RandomBlock(shape, seed, 0, testing::kSmallDegrees, attention);
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

TEST(Prompt, OnCiphertextsWithinPredictedNoise) {
  const auto decoder = MakeDecoder(Shapes()[2], 7);
  const auto step = Compile(decoder);
  const auto prompt = step->prompts()[step->PromptFor(5)];
  std::pair<double, double> predicted;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Simulator simulator(step, NoiseModel::ForParameters(*step->params()), seed);
    const auto [read, stepped] = Errors(
        *decoder, 5, [&](auto text) { return simulator.Read(prompt, text).value(); },
        [&](const auto& token) { return simulator.Step(token).value(); });
    predicted = {Worse(predicted.first, read), Worse(predicted.second, stepped)};
  }
  testing::EncryptedRun run(step);
  const auto [read, stepped] = Errors(
      *decoder, 5, [&](auto text) { return run.Read(prompt, text); },
      [&](const auto& token) {
        return run.Decrypt(run.session().Step(run.Encrypt(token), {}).value());
      });
  EXPECT_LT(read, 2 * predicted.first);
  EXPECT_LT(stepped, 2 * predicted.second);
  EXPECT_EQ(run.session().position(), decoder->context);
  RecordProperty("read", std::to_string(read));
  RecordProperty("predicted", std::to_string(predicted.first));
}

}  // namespace
}  // namespace polyveil::runtime
