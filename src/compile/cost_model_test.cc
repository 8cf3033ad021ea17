#include "compile/cost_model.h"

#include <gtest/gtest.h>

#include "ckks/parameters.h"
#include "compile/graph_builder.h"
#include "compile/levels.h"

namespace polyveil::compile {
namespace {

ckks::ParametersPtr DecodeParameters() {
  return ckks::Parameters::Create(*ckks::FindParameters("decode16")).value();
}

// Seconds of a bootstrap inside of programs with expanded keys, two threads of a Zen 5 whose speeds
// stand beside: of models/tiny (2^7 values), of SmolLM2-135M (2^9 and 2^10, 30 and 59 a token).
// Small and large ones alike: what one factor on all steps gets wrong.
TEST(CostModel, BootstrapsCostWhatTheyTookInPrograms) {
  MachineSpeed speed;
  speed.ntt_seconds = 52.1e-6;
  speed.product_seconds = 4.4e-6;
  speed.stream_seconds = 23.1e-6;
  speed.threads = 2;
  const CostModel cost(DecodeParameters(), speed);
  EXPECT_NEAR(cost.BootstrapSeconds(7, true), 0.527, 0.1 * 0.527);
  const double mean =
      (30 * cost.BootstrapSeconds(9, true) + 59 * cost.BootstrapSeconds(10, true)) / 89;
  EXPECT_NEAR(mean, 0.694, 0.1 * 0.694);
}

// A key of a higher level brings more special primes to a switch at a low one.
TEST(CostModel, KeySwitchesCostWhatTheirKeysMakeThemCost) {
  const auto params = DecodeParameters();
  const int low = 2, high = params->working_level();
  GraphBuilder b(params->log_slots());
  NodeId x = b.Input("x", params->log_slots());
  const Node rotation = b.graph()[b.Rotate("rotation", x, 1)];
  const Node conjugate = b.graph()[b.Conjugate("conjugate", x)];
  const Node square = b.graph()[b.Square("square", x)];
  const CostModel own(params, {});
  CostModel shared(params, {});
  ckks::KeyRequest keys;
  keys.AddRotation(1, params->slots(), high);
  keys.AddRelinearization(high);
  keys.AddConjugation(high);
  shared.UseKeys(keys);
  for (const Node& node : {rotation, conjugate, square}) {
    EXPECT_GT(shared.Seconds(node, low), own.Seconds(node, low)) << node.name;
    EXPECT_DOUBLE_EQ(shared.Seconds(node, high - Depth(node)),
                     own.Seconds(node, high - Depth(node)))
        << node.name;
  }
}

TEST(CostModel, AMatrixCostsMoreWithEveryTerm) {
  const auto params = DecodeParameters();
  const CostModel cost(params, {});
  double before = 0;
  for (const int terms : {2, 16, 64, 512}) {
    GraphBuilder b(params->log_slots());
    NodeId x = b.Input("x", params->log_slots());
    NodeId y = b.Linear("matrix", x, {terms, 1, {}}, true);
    const double seconds = cost.Seconds(b.graph()[y], 3);
    EXPECT_GT(seconds, before);
    before = seconds;
  }
}

}  // namespace
}  // namespace polyveil::compile
