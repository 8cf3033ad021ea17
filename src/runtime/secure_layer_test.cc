// One layer of the embedded model at N = 2^16 and 128-bit security, bootstraps included.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/decoder_reference.h"
#include "support/encrypted_run.h"
#include "support/predicted_error.h"

namespace polyveil::runtime {
namespace {

using testing::PredictedError;

const std::string kModel = std::string(POLYVEIL_SOURCE_DIR) + "/models/tiny";

std::shared_ptr<const model::Decoder> FirstLayer() {
  model::Decoder decoder = model::DecoderOfBundle(model::LoadBodyBundle(kModel).value());
  decoder.blocks.resize(1);
  return std::make_shared<const model::Decoder>(std::move(decoder));
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
  const auto params = testing::TestParams("decode16");
  ASSERT_FALSE(params->insecure());
  ASSERT_LE(params->log_qp(), ckks::MaxLogQp(16));
  const auto decoder = FirstLayer();
  testing::EncryptedRun run(decoder, params);
  const auto text = Text(2);
  const double tolerance = 2 * PredictedError(run.model(), *decoder, text);
  model::DecoderReference reference(*decoder);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto out = run.session().Step(run.Encrypt(text[i]), {});
    ASSERT_TRUE(out.ok()) << out.error().message;
    const auto expected = reference.Step(text[i]);
    const double error = LargestDifference(*expected, run.Decrypt(*out));
    EXPECT_LT(error, tolerance) << "token " << i;
    RecordProperty(fmt::format("error_{}", i), fmt::format("{:.3g} of {:.3g}", error, tolerance));
  }
}

}  // namespace
}  // namespace polyveil::runtime
