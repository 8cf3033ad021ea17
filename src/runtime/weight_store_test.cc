#include "runtime/weight_store.h"

#include <gtest/gtest.h>

#include <atomic>

#include "runtime/compile_model.h"
#include "support/encrypted_run.h"
#include "support/random_block.h"

namespace polyveil::runtime {
namespace {

// Counts how often a block's weights are asked for.
class CountedWeights final : public model::BlockWeightSource {
 public:
  explicit CountedWeights(std::shared_ptr<const model::BlockWeightSource> source)
      : source_(std::move(source)) {}
  std::shared_ptr<const model::BlockWeights> Load(unsigned parts) const override {
    ++(parts == model::kQkvWeights ? turned : fixed);
    return source_->Load(parts);
  }
  mutable std::atomic<int> turned{0}, fixed{0};

 private:
  const std::shared_ptr<const model::BlockWeightSource> source_;
};

class WeightStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model::Block block = testing::RandomBlock(testing::WideShape(), 3, 1);
    weights_ = std::make_shared<const CountedWeights>(block.weights);
    block.weights = weights_;
    decoder_ = std::make_shared<const model::Decoder>(
        model::Decoder{"test", "", {std::move(block)}, 3, 4});
    run_.emplace(decoder_, testing::TestParams());
    weights_->turned = weights_->fixed = 0;
  }

  // Three tokens' results from a store of this budget.
  std::vector<std::vector<double>> Run(std::optional<size_t> budget) {
    store_ = std::make_shared<WeightStore>(run_->model(), budget);
    const auto keys = std::make_shared<const ckks::EvaluationKeys>(run_->keys());
    DecoderSession session(Engine::Create(store_, keys).value());
    std::vector<std::vector<double>> results;
    for (const auto& token : testing::RandomText(run_->model()->width(), 3, 105)) {
      LatencyTable latency;
      StepOptions options;
      options.latency = &latency;
      results.push_back(run_->Decrypt(session.Step(run_->Encrypt(token), options).value()));
    }
    return results;
  }

  std::shared_ptr<const CountedWeights> weights_;
  std::shared_ptr<const model::Decoder> decoder_;
  std::optional<testing::EncryptedRun> run_;
  std::shared_ptr<WeightStore> store_;
};

TEST_F(WeightStoreTest, MakesNothingTwiceThatFitsAndDependsOnNoPosition) {
  const auto results = Run({});
  EXPECT_EQ(weights_->turned, 3);  // queries, keys and values turn with every token
  EXPECT_EQ(weights_->fixed, 3);   // projection, hidden, down: once
  EXPECT_EQ(store_->bytes(), run_->model()->estimate().weight_bytes);
  EXPECT_GT(store_->bytes(), 0u);

  weights_->fixed = 0;
  const auto unkept = Run(0);
  EXPECT_EQ(weights_->fixed, 9);
  EXPECT_EQ(store_->bytes(), 0u);
  for (size_t i = 0; i < results.size(); ++i)
    EXPECT_LT(LargestDifference(results[i], unkept[i]), 1e-2) << i;
}

TEST_F(WeightStoreTest, KeepsWithinItsBudget) {
  Run({});
  const size_t all = store_->bytes();
  for (const size_t budget : {all / 4, all / 2, all - 1}) {
    Run(budget);
    EXPECT_LE(store_->bytes(), budget);
    EXPECT_GT(store_->bytes(), 0u) << budget << " of " << all;
  }
  MemoryReport report;
  store_->Report(report);
  EXPECT_EQ(report.BytesOf("plaintexts of weights"), store_->bytes());
}

std::shared_ptr<const model::Decoder> MakeDecoder(int context) {
  std::vector<model::Block> blocks;
  for (const std::uint64_t seed : {3, 4})
    blocks.push_back(testing::RandomBlock(testing::WideShape(), seed));
  return std::make_shared<const model::Decoder>(
      model::Decoder{"test", "", std::move(blocks), context, 4});
}

// What steps and prompts keep of their weights' plaintexts lies beside the keys of both.
TEST(PromptWeights, PlaintextsOfAllProgramsStayInTheMachinesMemory) {
  const auto decoder = MakeDecoder(20);
  const auto estimate = [&](const compile::MachineSpeed& speed) {
    return CompileModel(decoder, testing::TestParams(), speed, {.prompts = true})
        .value()
        ->estimate();
  };
  const auto bytes = [](const compile::Estimate& e) {
    return e.server_bytes - e.key_bytes_memory + e.key_bytes_compact;
  };
  const compile::Estimate all = estimate({}), none = estimate({.weight_bytes = 0});
  EXPECT_EQ(none.weight_bytes, 0u);
  EXPECT_EQ(bytes(all), bytes(none) + all.weight_bytes);
  for (const size_t share : {0, 1, 2, 8}) {
    const size_t memory = bytes(none) + all.weight_bytes * share / 4;
    const compile::Estimate e = estimate({.weight_bytes = {}, .memory_bytes = memory});
    EXPECT_LE(bytes(e), memory) << share;
    EXPECT_EQ(e.weight_bytes > 0, share > 0);
  }
}

TEST(PromptWeights, StoreKeepsWhatTheEstimateSays) {
  const auto decoder = MakeDecoder(16);
  testing::EncryptedRun run(
      CompileModel(decoder, testing::TestParams(), compile::MachineSpeed{}, {.prompts = true})
          .value());
  const auto& step = dynamic_cast<const compile::CompiledDecoder&>(*run.model());
  const auto text = testing::RandomText(decoder->width(), 16, 103);
  run.Read(step.prompts().front(), std::span(text).first(15));
  ASSERT_TRUE(run.session().Step(run.Encrypt(text[15]), {}).ok());
  EXPECT_EQ(run.weights().bytes(), step.estimate().weight_bytes);
}

}  // namespace
}  // namespace polyveil::runtime
