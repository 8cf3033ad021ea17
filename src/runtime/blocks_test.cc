// Blocks of released architectures: the program against the float64 block, without noise and on
// ciphertexts.
#include <gtest/gtest.h>

#include <algorithm>

#include "compile/compiled_decoder.h"
#include "support/encrypted_run.h"
#include "support/predicted_error.h"
#include "support/random_block.h"

namespace polyveil::runtime {
namespace {

ckks::ParametersPtr TestParams() {
  return ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
}

std::shared_ptr<const compile::CompiledDecoder> Compile(std::vector<model::Block> blocks,
                                                        int context) {
  const auto params = TestParams();
  auto compiled =
      compile::CompiledDecoder::Create({"test", "", std::move(blocks), context, 4}, params,
                                       compile::MachineSpeed{}, MakeCircuitKeys(params));
  PV_CHECK(compiled.ok(), "{}", compiled.error().message);
  return *compiled;
}

// What the blocks make of a text, one after another.
std::vector<std::vector<double>> Expected(const std::vector<model::Block>& blocks,
                                          const std::vector<std::vector<double>>& text) {
  std::vector<std::vector<double>> values = text;
  for (const model::Block& block : blocks) {
    model::BlockReference reference(block, model::Evaluation::kPolynomial);
    for (auto& token : values) token = reference.Step(token).value();
  }
  return values;
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

TEST(Blocks, ProgramEqualsBlockWithoutNoise) {
  for (const Case& c : Cases()) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(c.shape, 3, c.prefix)};
    const auto compiled = Compile(blocks, c.context);
    ASSERT_GE(compiled->context(), c.context);
    Simulator simulator(compiled, NoiseModel::Zero(), 1);
    const auto text = testing::RandomText(c.shape.d_model, c.context, 103);
    const auto expected = Expected(blocks, text);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto actual = simulator.Step(text[i]);
      ASSERT_TRUE(actual.ok()) << actual.error().message;
      double size = 0;
      for (const double v : expected[i]) size = std::max(size, std::abs(v));
      EXPECT_LT(LargestDifference(expected[i], *actual), 1e-10 * size)
          << "d_model " << c.shape.d_model << ", context " << c.context << ", token " << i;
    }
  }
}

TEST(Blocks, CiphertextsEqualBlocksWithinPredictedNoise) {
  for (const model::BlockShape& shape :
       {testing::LlamaShape(), testing::NeoxShape(), testing::WideShape()}) {
    const std::vector<model::Block> blocks = {testing::RandomBlock(shape, 5, 1)};
    const auto text = testing::RandomText(shape.d_model, 3, 105);
    const auto expected = Expected(blocks, text);
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
  const auto expected = Expected({block}, text);
  testing::EncryptedRun run(Compile({block}, 2));
  const double tolerance = 2 * testing::PredictedError(run.model(), text, expected);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto out = run.session().Step(run.Encrypt(text[i]), {});
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_LT(LargestDifference(expected[i], run.Decrypt(*out)), tolerance) << "token " << i;
  }
}

TEST(Blocks, RefusesWhatTheLayoutCannotHold) {
  const auto params = TestParams();
  const auto refuse = [&](model::BlockShape shape, const std::string& part) {
    model::Block block = testing::RandomBlock(testing::LlamaShape(), 3);
    block.shape = shape;
    const auto compiled = compile::CompiledDecoder::Create(
        {"test", "", {block}, 8, 1}, params, compile::MachineSpeed{}, MakeCircuitKeys(params));
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
}

}  // namespace
}  // namespace polyveil::runtime
