#include "runtime/simulator.h"

#include <gtest/gtest.h>

#include "approx/remez.h"
#include "base/worst.h"
#include "compile/levels.h"
#include "model/decoder_reference.h"
#include "runtime/compile_model.h"
#include "support/random_model.h"

namespace polyveil::runtime {
namespace {

struct Fixture {
  std::shared_ptr<const model::Decoder> decoder;
  std::shared_ptr<const compile::CompiledDecoder> model;
};

Fixture Compile(const testing::RandomModelShape& shape, std::uint64_t seed) {
  auto spec = ckks::FindParameters("test10");
  auto params = ckks::Parameters::Create(spec.value());
  Fixture f;
  f.decoder = testing::RandomDecoder(shape, seed);
  f.model = CompileModel(f.decoder, params.value(), compile::MachineSpeed{}).value();
  return f;
}

// Without noise the program computes the reference model: only rounding of float64 remains.
TEST(Simulator, EqualsReferenceWithoutNoise) {
  for (auto shape :
       {testing::RandomModelShape{}, testing::RandomModelShape{.n_heads = 4, .d_ff = 16},
        testing::RandomModelShape{.n_layers = 3, .d_model = 8, .context = 16, .divisor_degree = 15},
        testing::RandomModelShape{.d_model = 8, .n_heads = 1, .context = 32},
        // Padded features, heads and rows; a cache of several ciphertexts.
        testing::RandomModelShape{.d_model = 12, .n_heads = 3, .d_ff = 20},
        testing::RandomModelShape{.n_layers = 1, .context = 40}}) {
    Fixture f = Compile(shape, 7);
    model::DecoderReference reference(*f.decoder);
    Simulator simulator(f.model, NoiseModel::Zero(), 1);
    std::mt19937_64 random(3);
    for (int position = 0; position < shape.context; ++position) {
      const std::vector<double> x = testing::RandomEmbedding(shape.d_model, random);
      const auto expected = reference.Step(x);
      const auto actual = simulator.Step(x);
      ASSERT_TRUE(actual.ok()) << actual.error().message;
      EXPECT_LT(LargestDifference(*expected, *actual), 1e-10) << "position " << position;
    }
  }
}

void ExpectProgramEqualsReference(const model::BodyBundle& bundle, const char* what) {
  SCOPED_TRACE(what);
  const auto params = testing::TestParams();
  const auto shared = testing::Shared(bundle);
  const auto compiled = CompileModel(shared, params, compile::MachineSpeed{});
  ASSERT_TRUE(compiled.ok()) << compiled.error().message;
  model::DecoderReference reference(*shared);
  Simulator simulator(*compiled, NoiseModel::Zero(), 1);
  std::mt19937_64 random(3);
  for (int position = 0; position < bundle.config.context; ++position) {
    const std::vector<double> x = testing::RandomEmbedding(bundle.config.d_model, random);
    const auto expected = reference.Step(x);
    EXPECT_LT(LargestDifference(*expected, *simulator.Step(x)), 1e-10) << "position " << position;
  }
}

TEST(Simulator, EqualsReferenceForAGeluBundle) {
  model::BodyBundle bundle = testing::RandomModel({}, 14);
  bundle.config.ffn = model::FeedForwardKind::kGelu;
  for (model::LayerConfig& layer : bundle.config.layers) {
    layer.norm2 = layer.norm1;
    layer.activation = approx::Interpolate(
        [](double x) { return model::Activate(model::BlockActivation::kGelu, x); }, -6, 6, 15);
  }
  for (model::BundleLayer& w : bundle.weights.layers) w.w2 = {};
  ExpectProgramEqualsReference(bundle, "gelu");
}

// Every form of attention (model/attention_form.h).
TEST(Simulator, EqualsReferenceForEveryFormOfAttention) {
  // Where the divisors range further than the random model's interval.
  const approx::Approximant wide = approx::MinimaxInverse(0.02, 100, 7).value().series;
  for (const int power : {2, 4, 6, 8, 10, 12}) {
    model::BodyBundle bundle = testing::RandomModel({}, 7);
    bundle.config.power = power;
    for (model::LayerConfig& layer : bundle.config.layers) {
      for (size_t h = 0; h < layer.kappa.size(); ++h)
        layer.kappa[h] = std::pow(layer.shift[h], power);
      if (power > 6) layer.divisor_inverse = wide;
    }
    ExpectProgramEqualsReference(bundle, "power");
  }
  model::BodyBundle mixed = testing::RandomModel({}, 8);
  model::LayerConfig& powers = mixed.config.layers[0];
  powers.attention.powers = {2, 6};
  powers.kappa = {std::pow(powers.shift[0], 2), std::pow(powers.shift[1], 6)};
  mixed.config.layers[1].attention.kind = model::AttentionKind::kPointwise;
  ExpectProgramEqualsReference(mixed, "mixed");
  model::BodyBundle sum = testing::RandomModel({}, 9);
  for (model::LayerConfig& layer : sum.config.layers) {
    layer.attention.mean = false;
    for (double& kappa : layer.kappa) kappa *= 8;
  }
  ExpectProgramEqualsReference(sum, "sum");
  model::BodyBundle normalised = testing::RandomModel({}, 10);
  const auto root = approx::Interpolate([](double v) { return 1 / std::sqrt(v); }, 0.01, 1, 7);
  for (model::LayerConfig& layer : normalised.config.layers) {
    layer.attention.qk_norm = model::QkNorm{root, root, {0.3, -0.2}};
    layer.divisor_inverse = wide;
  }
  ExpectProgramEqualsReference(normalised, "normalised");
}

// e on [-8, 8] divided by 2^squarings, as an interpolating series.
approx::Approximant Exponential(int squarings, int degree) {
  return approx::Interpolate([=](double z) { return std::exp(std::ldexp(z, -squarings)); }, -8, 8,
                             degree);
}

TEST(Simulator, EqualsReferenceForApproximatedSoftmax) {
  model::BodyBundle exponential = testing::RandomModel({}, 11);
  for (model::LayerConfig& layer : exponential.config.layers) {
    layer.attention.kind = model::AttentionKind::kExponential;
    layer.attention.exponential = Exponential(3, 7);
    layer.attention.squarings = 3;
    layer.kappa = {7, 9};
  }
  ExpectProgramEqualsReference(exponential, "exponential");
  // A divisor of a wide range by many Goldschmidt steps, which are bootstrapped inside.
  approx::Approximant wide = approx::MinimaxInverse(1e-3, 30, 3).value().series;
  wide.refinement = approx::Refinement::kGoldschmidt;
  wide.shift = exponential.config.attention_eps;
  wide.steps = 14;
  for (model::LayerConfig& layer : exponential.config.layers) layer.divisor_inverse = wide;
  ExpectProgramEqualsReference(exponential, "exponential");
  model::BodyBundle square = testing::RandomModel({}, 12);
  for (model::LayerConfig& layer : square.config.layers) {
    layer.attention.kind = model::AttentionKind::kNormaliseSquare;
    layer.attention.exponential = Exponential(2, 7);
    const auto root = [](double m) { return 1 / std::sqrt(m); };
    layer.attention.rounds = {approx::Interpolate(root, 0.1, 60, 7),
                              approx::Interpolate(root, 0.5, 10, 7)};
  }
  ExpectProgramEqualsReference(square, "square");
}

// With series of high degree the forms are softmax: the exact reference's weights sum to 1.
TEST(Simulator, ApproximatedSoftmaxIsSoftmaxWithExactFunctions) {
  for (const auto kind :
       {model::AttentionKind::kExponential, model::AttentionKind::kNormaliseSquare}) {
    model::BodyBundle bundle = testing::RandomModel({}, 13);
    bundle.config.attention_eps = 0;
    for (model::LayerConfig& layer : bundle.config.layers) {
      layer.attention.kind = kind;
      layer.attention.exponential = Exponential(2, 7);
      layer.attention.squarings = 2;
      if (kind == model::AttentionKind::kNormaliseSquare) layer.attention.rounds.resize(2);
    }
    model::DecoderReference reference(model::DecoderOfBundle(bundle), model::Evaluation::kExact);
    std::vector<double> scores, weights;
    reference.set_observer([&](const std::string& name, std::span<const double> values) {
      if (name == "layer 1 / attention / scores") scores.assign(values.begin(), values.end());
      if (name == "layer 1 / attention / weights") weights.assign(values.begin(), values.end());
    });
    std::mt19937_64 random(3);
    for (int position = 0; position < 5; ++position)
      ASSERT_TRUE(reference.Step(testing::RandomEmbedding(16, random)).ok());
    double sum = 0;
    for (int k = 0; k < 5; ++k) sum += std::exp(scores[k]);
    for (int k = 0; k < 5; ++k) EXPECT_NEAR(weights[k], std::exp(scores[k]) / sum, 1e-12);
  }
}

TEST(Simulator, RefusesAStepBeyondTheContext) {
  const testing::RandomModelShape shape{.n_layers = 1, .context = 2};
  Fixture f = Compile(shape, 1);
  Simulator simulator(f.model, NoiseModel::Zero(), 1);
  std::mt19937_64 random(3);
  const std::vector<double> x = testing::RandomEmbedding(shape.d_model, random);
  ASSERT_TRUE(simulator.Step(x).ok());
  ASSERT_TRUE(simulator.Step(x).ok());
  const auto beyond = simulator.Step(x);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().code, ErrorCode::kOutOfRange);
}

TEST(Simulator, CountsEscapes) {
  const testing::RandomModelShape shape{.n_layers = 1};
  Fixture f = Compile(shape, 1);
  Simulator simulator(f.model, NoiseModel::Zero(), 1);
  std::vector<double> x(shape.d_model, 3.0);  // mean square 9, the norm's interval ends at 4
  ASSERT_TRUE(simulator.Step(x).ok());
  const EscapeReport& report = simulator.escapes().at("layer 0 / attention / inverse root");
  EXPECT_GT(report.escapes, 0u);
  EXPECT_GT(report.worst, 1.0);
}

// With every slot kept the values are the same, and without noise the copies of a period are equal.
TEST(Simulator, KeepsCopiesWhenAsked) {
  const testing::RandomModelShape shape;
  Fixture f = Compile(shape, 7);
  Simulator period(f.model, NoiseModel::Zero(), 1);
  Simulator all(f.model, NoiseModel::Zero(), 1, SimulatedSlots::kAll);
  std::mt19937_64 random(3);
  for (int position = 0; position < 3; ++position) {
    const std::vector<double> x = testing::RandomEmbedding(shape.d_model, random);
    EXPECT_LT(LargestDifference(*period.Step(x), *all.Step(x)), 1e-10);
    ASSERT_EQ(all.result_slots().size(), static_cast<size_t>(f.model->params()->slots()));
    for (size_t j = 0; j < all.result_slots().size(); ++j)
      EXPECT_LT(std::abs(all.result_slots()[j] - all.result_slots()[j % shape.d_model]), 1e-10);
  }
}

// What is no number is an escape, is counted on its own and is worse than every number.
TEST(Simulator, CountsWhatIsNotFinite) {
  const testing::RandomModelShape shape{.n_layers = 3, .norm_end = 1e-60};
  Fixture f = Compile(shape, 1);
  Simulator simulator(f.model, NoiseModel::Zero(), 1);
  ASSERT_TRUE(simulator.Step(std::vector<double>(shape.d_model, 3.0)).ok());
  EscapeReport all;
  for (const auto& [name, report] : simulator.escapes()) {
    EXPECT_LE(report.not_finite, report.escapes) << name;
    if (report.not_finite > 0) {
      EXPECT_EQ(report.worst, INFINITY) << name;
    }
    all.Merge(report);
  }
  EXPECT_GT(all.not_finite, 0u);
  EXPECT_EQ(all.worst, INFINITY);
  model::DecoderReference reference(*f.decoder);
  ASSERT_TRUE(reference.Step(std::vector<double>(shape.d_model, 3.0)).ok());
  EXPECT_NE(reference.first_not_finite().find("at position 0"), std::string::npos)
      << reference.first_not_finite();
}

}  // namespace
}  // namespace polyveil::runtime
