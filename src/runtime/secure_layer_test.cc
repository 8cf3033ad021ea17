// One layer of the embedded model at N = 2^16 and 128-bit security, bootstraps included.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/reference.h"
#include "support/encrypted_run.h"
#include "support/predicted_error.h"

namespace polyveil::runtime {
namespace {

using testing::PredictedError;

const std::string kModel = std::string(POLYVEIL_SOURCE_DIR) + "/models/tiny";

std::shared_ptr<const model::BodyBundle> FirstLayer() {
  auto bundle = std::make_shared<model::BodyBundle>(model::LoadBodyBundle(kModel).value());
  bundle->config.n_layers = 1;
  bundle->config.layers.resize(1);
  bundle->weights.layers.resize(1);
  return bundle;
}

// Embeddings of a few tokens at their positions.
std::vector<std::vector<double>> Text(int tokens) {
  const model::ClientBundle client = model::LoadClientBundle(kModel).value();
  std::vector<std::vector<double>> text;
  for (int i = 0; i < tokens; ++i) {
    const auto row = client.weights.embed.row(300 + 7 * i), position = client.weights.pos.row(i);
    text.emplace_back(row.begin(), row.end());
    for (size_t j = 0; j < position.size(); ++j) text.back()[j] += position[j];
  }
  return text;
}

TEST(SecureLayer, EqualsPlaintextLayerWithinPredictedNoise) {
  const auto params = ckks::Parameters::Create(ckks::FindParameters("decode16").value()).value();
  ASSERT_FALSE(params->insecure());
  ASSERT_LE(params->log_qp(), ckks::MaxLogQp(16));
  const auto bundle = FirstLayer();
  testing::EncryptedRun run(bundle, params);
  const auto text = Text(2);
  const double tolerance = 2 * PredictedError(run.model(), *bundle, text);
  model::ReferenceModel reference(*bundle);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto out = run.session().Step(run.Encrypt(text[i]), {});
    ASSERT_TRUE(out.ok()) << out.error().message;
    const auto expected = reference.StepFromEmbedding(text[i], static_cast<int>(i));
    const double error = LargestDifference(*expected, run.Decrypt(*out));
    EXPECT_LT(error, tolerance) << "token " << i;
    RecordProperty(fmt::format("error_{}", i), fmt::format("{:.3g} of {:.3g}", error, tolerance));
  }
}

}  // namespace
}  // namespace polyveil::runtime
