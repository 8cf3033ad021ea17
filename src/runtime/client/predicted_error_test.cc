#include "runtime/client/predicted_error.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/random_model.h"

namespace polyveil::runtime {
namespace {

struct Bundles {
  model::BodyBundle body;
  model::ClientBundle client;
};

Bundles MakeBundles() {
  std::mt19937_64 random(5);
  Bundles m{testing::RandomModel({}, 5), {}};
  m.body.config.vocab_size = 300;
  m.client.config = m.body.config;
  const model::ModelConfig& c = m.body.config;
  m.client.weights.embed = testing::RandomMatrix(c.vocab_size, c.d_model, 0.9, random);
  m.client.weights.pos = testing::RandomMatrix(c.context, c.d_model, 0.2, random);
  m.client.weights.final_gamma.assign(static_cast<std::size_t>(c.d_model), 1);
  return m;
}

ckks::ParametersPtr Params() {
  return ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
}

// Noise enters at the residual's unit: a bound that is a thousand times too large costs a thousand
// times the precision.
TEST(PredictedError, GrowsWithABoundThatNoValueReaches) {
  Bundles m = MakeBundles();
  const double usual = PredictLogitError(testing::Shared(m.body), m.client, Params()).value();
  EXPECT_GT(usual, 0);
  EXPECT_EQ(PredictLogitError(testing::Shared(m.body), m.client, Params()).value(), usual);
  for (model::LayerConfig& layer : m.body.config.layers)
    layer.bounds.residual_in = layer.bounds.residual_mid = layer.bounds.residual_out = 6000;
  const auto wrong = PredictLogitError(testing::Shared(m.body), m.client, Params());
  ASSERT_TRUE(wrong.ok()) << wrong.error().message;
  EXPECT_GT(*wrong, 20 * usual);
}

TEST(PredictedError, NamesLogitsThatAreNoNumbers) {
  Bundles m = MakeBundles();
  m.body.config.layers[1].norm2.b = m.body.config.layers[1].norm2.a * (1 + 1e-12);
  for (double& c : m.body.config.layers[1].norm2.coeffs) c = 1e300;
  const auto predicted = PredictLogitError(testing::Shared(m.body), m.client, Params());
  ASSERT_FALSE(predicted.ok());
  EXPECT_NE(predicted.error().message.find("simulated token"), std::string::npos)
      << predicted.error().message;
}

TEST(PredictedError, RefusesAShapeWithoutAProgram) {
  Bundles m = MakeBundles();
  m.body.config.d_ff = 1024;
  const auto predicted = PredictLogitError(testing::Shared(m.body), m.client, Params());
  ASSERT_FALSE(predicted.ok());
  EXPECT_NE(predicted.error().message.find("d_ff = 1024"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::runtime
