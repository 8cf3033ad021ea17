// The predicted noise of a result against simulated slots and against ciphertexts.
#include "runtime/result_noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string_view>

#include "model/decoder_reference.h"
#include "runtime/simulator.h"
#include "support/encrypted_run.h"
#include "support/random_model.h"

namespace polyveil::runtime {
namespace {

using compile::Complex;

constexpr std::string_view kSimulated = "simulated";

// Root mean squares over a result's slots.
ResultNoise Measure(std::span<const Complex> slots, size_t period) {
  std::vector<double> means(period);
  for (size_t j = 0; j < slots.size(); ++j)
    means[j % period] +=
        slots[j].real() * static_cast<double>(period) / static_cast<double>(slots.size());
  ResultNoise noise;
  for (size_t j = 0; j < slots.size(); ++j) {
    noise.copies += std::norm(slots[j].real() - means[j % period]);
    noise.imaginary += std::norm(slots[j].imag());
  }
  // Of the modulus: two parts.
  noise.copies = std::sqrt(2 * noise.copies / static_cast<double>(slots.size()));
  noise.imaginary = std::sqrt(2 * noise.imaginary / static_cast<double>(slots.size()));
  return noise;
}

// Not above the prediction times its accuracy; of simulated slots not so far below that nothing
// would be noticed. (On ciphertexts a bootstrap's systematic error, most of it on small rings, is
// the same in every copy.)
void ExpectPredicted(const ResultNoise& seen, const ResultNoise& predicted,
                     std::string_view where) {
  for (const auto& [what, measured, expected] :
       {std::tuple{"copies", seen.copies, predicted.copies},
        std::tuple{"imaginary", seen.imaginary, predicted.imaginary}}) {
    EXPECT_LT(measured, kNoiseAccuracy * expected) << where << ", " << what;
    EXPECT_GT(measured, 0) << where << ", " << what;
    if (where == kSimulated) {
      EXPECT_GT(measured * 64, expected) << where << ", " << what;
    }
  }
}

constexpr std::uint64_t kText = 3;

// With the bounds that a text of random embeddings shows.
model::BodyBundle Calibrated(const testing::RandomModelShape& shape) {
  const model::BodyBundle bundle = testing::RandomModel(shape, 7);
  model::BodyBundle seen = bundle;
  model::DecoderReference reference(model::DecoderOfBundle(bundle));
  reference.set_observer([&](const std::string& name, std::span<const double> values) {
    model::LayerBounds& bounds = seen.config.layers[std::stoi(name.substr(6))].bounds;
    const auto note = [&](const char* site, double& bound) {
      if (!name.ends_with(site)) return;
      for (const double v : values) bound = std::max(bound, std::abs(v));
    };
    note("attention / head output", bounds.head_out);
    note("attention / projection", bounds.attn_out);
    note("attention / residual", bounds.residual_mid);
    note("feed-forward / output", bounds.ffn_out);
    note("feed-forward / residual", bounds.residual_out);
  });
  std::mt19937_64 random(kText);
  for (int i = 0; i < shape.context; ++i)
    reference.Step(testing::RandomEmbedding(shape.d_model, random)).value();
  return seen;
}

const testing::RandomModelShape kShapes[] = {
    {}, {.n_layers = 1}, {.n_heads = 4, .d_ff = 16}, {.n_layers = 3, .d_model = 8, .context = 16}};

ResultNoise Predicted(const model::BodyBundle& bundle, const ckks::Parameters& params) {
  const model::Decoder decoder = model::DecoderOfBundle(bundle);
  return PredictResultNoise(BoundsOfResult(decoder, compile::MakeResidualUnits(decoder)),
                            decoder.width(), params);
}

TEST(ResultNoise, BoundsWhatSimulatedSlotsShow) {
  for (const auto& shape : kShapes) {
    const auto params = testing::TestParams("test10");
    const auto bundle = Calibrated(shape);
    const auto model =
        CompileModel(testing::Shared(bundle), params, compile::MachineSpeed{}).value();
    Simulator simulator(model, NoiseModel::ForParameters(*params), 1, SimulatedSlots::kAll);
    const ResultNoise predicted = Predicted(bundle, *params);
    std::mt19937_64 random(kText);
    for (int i = 0; i < shape.context; ++i) {
      ASSERT_TRUE(simulator.Step(testing::RandomEmbedding(shape.d_model, random)).ok());
      ASSERT_EQ(simulator.result_slots().size(), static_cast<size_t>(params->slots()));
      ExpectPredicted(Measure(simulator.result_slots(), shape.d_model), predicted, kSimulated);
    }
  }
}

// An interval from 0 on has no middle of its own: where sums were seen, or the inverse's.
TEST(ResultNoise, DivisorsFromZeroHaveABound) {
  auto bundle = Calibrated({});
  const auto shares = [&](double a, model::ObservedInterval seen) {
    for (model::LayerConfig& layer : bundle.config.layers) {
      layer.divisor_inverse.a = a;
      layer.divisor_seen = seen;
    }
    const model::Decoder decoder = model::DecoderOfBundle(bundle);
    return BoundsOfResult(decoder, compile::MakeResidualUnits(decoder)).imaginary;
  };
  const double b = bundle.config.layers.front().divisor_inverse.b;
  const NoiseShares usual = shares(0.01 * b, {}), from_zero = shares(0, {0.01 * b, b});
  EXPECT_NEAR(from_zero.bootstrap / usual.bootstrap, 1, 1e-9);
  EXPECT_NEAR(from_zero.key_switch / usual.key_switch, 1, 1e-9);
  for (const double share : {shares(0, {}).bootstrap, shares(0, {}).key_switch}) {
    EXPECT_TRUE(std::isfinite(share));
    EXPECT_GT(share, 0);
  }
}

TEST(ResultNoise, BoundsWhatCiphertextsShow) {
  for (const auto& shape : kShapes) {
    const auto params = testing::TestParams("test10");
    const auto bundle = Calibrated(shape);
    testing::EncryptedRun run(testing::Shared(bundle), params);
    const ResultNoise predicted = Predicted(bundle, *params);
    std::mt19937_64 random(kText);
    for (int i = 0; i < 2; ++i) {
      const auto token = run.Encrypt(testing::RandomEmbedding(shape.d_model, random));
      const auto result = run.session().Step(token, {});
      ASSERT_TRUE(result.ok()) << result.error().message;
      ExpectPredicted(Measure(run.Slots(*result), shape.d_model), predicted, "encrypted");
    }
  }
}

}  // namespace
}  // namespace polyveil::runtime
