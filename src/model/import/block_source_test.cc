// A checkpoint's blocks in float64 against the float32 reference of the whole.
#include "model/import/block_source.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/block_reference.h"
#include "model/float32/layers.h"
#include "model/float32/reference.h"
#include "model/formats/released_fixture.h"
#include "model/import/constant_prefix.h"

namespace polyveil::model {
namespace {

// A block's results as the next one reads them; the last norm of an encoder stands outside.
std::vector<std::vector<double>> Results(const Block& block,
                                         const std::vector<std::vector<double>>& inputs) {
  BlockReference reference(block, Evaluation::kExact);
  auto results = reference.Read(inputs).value();
  if (!block.shape.norm_outside) return results;
  for (auto& token : results) {
    double squares = 0;
    for (const double value : token) squares += value * value;
    const double root =
        1 / std::sqrt(squares / static_cast<double>(token.size()) + block.shape.norm_eps);
    for (double& value : token) value *= root;
  }
  return results;
}

// Without eps a first token attends to itself alone whatever the form: its block is the original's.
TEST(BlockSource, FirstTokenEqualsTheOriginalBlock) {
  const nlohmann::json cases = ReadVectors("logits.json");
  int encoders = 0;
  for (const nlohmann::json& vectors : cases) {
    const std::string name = vectors["name"];
    TemporaryFolder folder;
    WriteModel(vectors, folder.path());
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    const auto shape = ShapeOfBlocks(checkpoint->architecture);
    if (!shape.ok()) {
      EXPECT_EQ(checkpoint->architecture.activation, Activation::kRelu)
          << name << ": " << shape.error().message;
      continue;
    }
    encoders += !shape->causal;
    const std::vector<std::int32_t> tokens = {3};
    for (int layer = 0; layer < checkpoint->architecture.n_layers; ++layer) {
      Block block = MakeBlock(checkpoint, layer).value();
      block.shape.attention_eps = 0;
      block.forms.shift.assign(static_cast<std::size_t>(block.shape.n_heads), 3);
      block.forms.kappa.assign(static_cast<std::size_t>(block.shape.n_heads), 1);
      const auto expected = InputsOfLayer(*checkpoint, layer + 1, tokens).value();
      const auto actual = Results(block, InputsOfLayer(*checkpoint, layer, tokens).value());
      // Sums of float32 products of some hundred terms of order 1.
      for (std::size_t i = 0; i < actual[0].size(); ++i)
        EXPECT_NEAR(actual[0][i], expected[0][i], 2e-5) << name << ", layer " << layer;
    }
  }
  EXPECT_GE(encoders, 2);  // BERT and RoBERTa
}

// Even powers from 2, in another order in every layer; sums in the place of means in odd layers.
ConvertedForms MixedForms(const Architecture& a) {
  ConvertedForms forms;
  forms.stage = FormStage::kPower;
  forms.attention_eps = 1e-3;
  for (int layer = 0; layer < a.n_layers; ++layer) {
    LayerConfig config;
    config.attention.mean = layer % 2 == 0;
    for (int h = 0; h < a.n_heads; ++h) {
      const int power = 2 + 2 * ((layer + h) % 3);
      config.attention.powers.push_back(power);
      config.shift.push_back(3);
      config.kappa.push_back(std::pow(3, power));
    }
    forms.layers.push_back(config);
  }
  return forms;
}

TEST(BlockSource, PowersByHeadEqualTheWholeModel) {
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5};
  for (const nlohmann::json& vectors : ReadVectors("logits.json")) {
    const std::string name = vectors["name"];
    TemporaryFolder folder;
    WriteModel(vectors, folder.path());
    const Architecture a = LoadCheckpoint(folder.path()).value()->architecture;
    if (!ShapeOfBlocks(a).ok()) continue;
    WriteBytes(folder / "forms.json", FormatForms(MixedForms(a)));
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    for (int layer = 0; layer < a.n_layers; ++layer) {
      const auto expected = InputsOfLayer(*checkpoint, layer + 1, tokens).value();
      const auto actual = Results(MakeBlock(checkpoint, layer).value(),
                                  InputsOfLayer(*checkpoint, layer, tokens).value());
      // Sums of float32 products of some hundred terms of order 1, of powers up to the sixth.
      for (std::size_t t = 0; t < tokens.size(); ++t)
        for (std::size_t i = 0; i < actual[t].size(); ++i)
          EXPECT_NEAR(actual[t][i], expected[t][i], 1e-4) << name << ", " << layer << ", " << t;
    }
  }
}

TEST(BlockSource, AnEncodersFirstBlockReadsItsEmbedding) {
  const std::vector<std::int32_t> tokens = {3, 7, 4, 7, 5};
  for (const nlohmann::json& vectors : ReadVectors("logits.json")) {
    TemporaryFolder folder;
    WriteModel(vectors, folder.path());
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    if (checkpoint->architecture.causal) continue;
    const auto actual = EmbedTokens(*checkpoint, tokens).value();
    const auto expected = InputsOfLayer(*checkpoint, 0, tokens).value();
    for (std::size_t t = 0; t < tokens.size(); ++t)
      for (std::size_t i = 0; i < actual[t].size(); ++i)
        EXPECT_NEAR(actual[t][i], expected[t][i], 2e-5) << vectors["name"];
  }
}

TEST(BlockSource, TurnedRowsEqualTurnedVectors) {
  for (const RotaryPairs pairs : {RotaryPairs::kHalves, RotaryPairs::kAdjacent}) {
    Rotary rotary;
    rotary.dims = 6;
    rotary.theta = 100;
    rotary.pairs = pairs;
    const RotaryTable table(rotary, {});
    BlockShape shape{
        .d_model = 5, .n_heads = 2, .n_kv_heads = 2, .d_head = 8, .d_ff = 4, .rotary = {}};
    for (const float f : table.frequencies()) shape.rotary.push_back(f);
    shape.adjacent_pairs = pairs == RotaryPairs::kAdjacent;
    const BlockWeights w = RandomBlockWeights(shape, 1);
    const std::vector<double> x = {1, -2, 0.5, 3, -1};
    for (const int position : {0, 1, 17}) {
      const std::vector<double> plain = Multiply(w.wk, x);
      std::vector<float> expected(plain.begin(), plain.end());
      table.Rotate(position, expected.data(), 2, 8);
      Matrix turned = w.wk;
      std::vector<double> bias = plain;
      RotateRows(shape, position, turned.values, turned.cols);
      RotateRows(shape, position, bias, 1);
      const std::vector<double> actual = Multiply(turned, x);
      for (std::size_t i = 0; i < actual.size(); ++i) {
        EXPECT_NEAR(actual[i], expected[i], 1e-5) << position;
        EXPECT_NEAR(bias[i], expected[i], 1e-5) << position;
      }
    }
  }
}

TEST(BlockSource, RefusesLayersThatAreNotThere) {
  const nlohmann::json vectors = ReadVectors("logits.json");
  TemporaryFolder folder;
  WriteModel(vectors[0], folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const int layers = checkpoint->architecture.n_layers;
  const std::vector<std::int32_t> tokens = {1};
  EXPECT_EQ(MakeBlock(checkpoint, layers).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(MakeBlock(checkpoint, -1).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(InputsOfLayer(*checkpoint, layers + 1, tokens).error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace polyveil::model
