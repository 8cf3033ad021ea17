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

}  // namespace
}  // namespace polyveil::runtime
