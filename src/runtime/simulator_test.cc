#include "runtime/simulator.h"

#include <gtest/gtest.h>

#include "compile/levels.h"
#include "model/reference.h"
#include "runtime/compile_model.h"
#include "support/random_model.h"

namespace polyveil::runtime {
namespace {

struct Fixture {
  std::shared_ptr<const model::BodyBundle> bundle;
  std::shared_ptr<const compile::CompiledModel> model;
};

Fixture Compile(const testing::RandomModelShape& shape, std::uint64_t seed) {
  auto spec = ckks::FindParameters("test10");
  auto params = ckks::Parameters::Create(spec.value());
  Fixture f;
  f.bundle = std::make_shared<model::BodyBundle>(testing::RandomModel(shape, seed));
  f.model = CompileModel(f.bundle, params.value(), compile::MachineSpeed{}).value();
  return f;
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

// Without noise the program computes the reference model: only rounding of float64 remains.
TEST(Simulator, EqualsReferenceWithoutNoise) {
  for (auto shape :
       {testing::RandomModelShape{}, testing::RandomModelShape{.n_heads = 4, .d_ff = 16},
        testing::RandomModelShape{.n_layers = 3, .d_model = 8, .context = 16, .divisor_degree = 15},
        testing::RandomModelShape{.d_model = 8, .n_heads = 1, .context = 32}}) {
    Fixture f = Compile(shape, 7);
    model::ReferenceModel reference(*f.bundle);
    Simulator simulator(f.model, NoiseModel::Zero(), 1);
    std::mt19937_64 random(3);
    for (int position = 0; position < shape.context; ++position) {
      const std::vector<double> x = testing::RandomEmbedding(shape.d_model, random);
      const auto expected = reference.StepFromEmbedding(x, position);
      const auto actual = simulator.Step(x);
      ASSERT_TRUE(actual.ok()) << actual.error().message;
      EXPECT_LT(LargestDifference(*expected, *actual), 1e-10) << "position " << position;
    }
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

}  // namespace
}  // namespace polyveil::runtime
