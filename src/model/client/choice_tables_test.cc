#include "model/formats/choice_tables.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "base/worst.h"
#include "model/client/client_half.h"

namespace polyveil::model {
namespace {

const std::string kModels = POLYVEIL_SOURCE_DIR "/models/";

// The tables give the client's own logits but for their mean, and its embeddings.
TEST(ChoiceTables, AreTheClients) {
  ClientFiles files = ClientFilesOfBundle(kModels + "tiny-single").value();
  const auto tables = LoadChoiceTables(files);
  ASSERT_TRUE(tables.ok()) << tables.error().message;
  auto codec = BundleCodec(files).value();
  const auto half = ClientHalf::Create(std::move(files), std::move(codec)).value();
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> residual(static_cast<size_t>(half->width()));
  for (double& v : residual) v = normal(random);
  auto logits = half->Head(residual).value();
  const double mean =
      std::accumulate(logits.begin(), logits.end(), 0.0) / static_cast<double>(logits.size());
  for (double& l : logits) l -= mean;
  EXPECT_LT(LargestDifference(logits, CentredLogits(**tables, residual)), 1e-4);
  const std::vector<TokenId> text = {0, 17, 4095};
  const auto embedding = half->Embed(text).value();
  const auto row = (*tables)->EmbeddingRow(4095);
  for (size_t c = 0; c < embedding.size(); ++c)
    EXPECT_NEAR(embedding[c], row[c] + (*tables)->positions[2 * embedding.size() + c], 1e-6);
}

TEST(ChoiceTables, RefuseTablesOfPairs) {
  const auto refused = LoadChoiceTables(ClientFilesOfBundle(kModels + "tiny").value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("runs of tokens"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::model
