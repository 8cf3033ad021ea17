#include "compile/levels.h"

#include <gtest/gtest.h>

#include "compile/graph_builder.h"

namespace polyveil::compile {
namespace {

ckks::ParametersPtr Params() {
  return ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
}

// `layers` layers of `squares` squarings each, every layer's result a cut.
Graph Chain(int layers, int squares) {
  GraphBuilder b(9);
  b.Enter(-1, Component::kInput, "");
  NodeId x = b.Input("x", 4);
  for (int layer = 0; layer < layers; ++layer) {
    b.Enter(layer, Component::kPower, "");
    for (int i = 0; i < squares; ++i) x = b.Square("square", x);
    b.MarkCut(x);
  }
  b.graph().outputs = {x};
  return std::move(b.graph());
}

int CountBootstraps(const Placement& placement) {
  return static_cast<int>(
      std::count(placement.bootstrapped.begin(), placement.bootstrapped.end(), true));
}

TEST(Levels, NoBootstrapWhereTheLevelsSuffice) {
  const auto params = Params();
  const CostModel cost(params, {});
  const auto placement = PlaceBootstraps(Chain(2, params->working_level() / 2), *params, cost);
  ASSERT_TRUE(placement.ok());
  EXPECT_EQ(CountBootstraps(*placement), 0);
}

TEST(Levels, FewestBootstrapsOfAUniformChain) {
  const auto params = Params();
  const CostModel cost(params, {});
  // Three layers fit between bootstraps; after the last one the levels of the next StC are free
  // too.
  const int squares = (params->working_level() - params->bootstrap_level()) / 3;
  const auto placement = PlaceBootstraps(Chain(9, squares), *params, cost);
  ASSERT_TRUE(placement.ok());
  EXPECT_EQ(CountBootstraps(*placement), 2);
}

TEST(Levels, PlanKeepsEveryLevelInBounds) {
  const auto params = Params();
  const CostModel cost(params, {});
  Graph graph = Chain(7, 5);
  const auto placement = PlaceBootstraps(graph, *params, cost);
  ASSERT_TRUE(placement.ok());
  graph = InsertBootstraps(std::move(graph), placement->bootstrapped);
  ASSERT_TRUE(AssignLevels(graph, *params).ok());
  for (const Node& node : graph.nodes) {
    EXPECT_GE(node.level, 0);
    EXPECT_LE(node.level, params->working_level());
    for (NodeId input : node.inputs) {
      const int needed =
          node.kind == OpKind::kBootstrap ? params->bootstrap_level() : node.level + Depth(node);
      EXPECT_GE(graph[input].level, needed) << node.name;
    }
  }
  EXPECT_EQ(graph[graph.outputs[0]].level, 0);
}

// Parts of one value in several ciphertexts: bootstrapped together, and one choice, however many.
TEST(Levels, CutsThatGoTogetherAreBootstrappedTogether) {
  const auto params = Params();
  const CostModel cost(params, {});
  GraphBuilder b(9);
  b.Enter(-1, Component::kInput, "");
  NodeId x = b.Input("x", 4);
  b.Enter(0, Component::kPower, "");
  for (int i = 0; i < params->working_level() - 2; ++i) x = b.Square("square", x);
  std::vector<NodeId> parts;
  for (int i = 0; i < 20; ++i) {
    parts.push_back(b.MulPlain("part", x, {Complex(i + 1.0)}));
    b.MarkCut(parts.back(), parts.front());
  }
  NodeId sum = -1;
  for (NodeId part : parts) {
    for (int i = 0; i < 4; ++i) part = b.Square("square", part);
    sum = sum < 0 ? part : b.Add("sum", sum, part);
  }
  b.graph().outputs = {sum};
  const auto placement = PlaceBootstraps(b.graph(), *params, cost);
  ASSERT_TRUE(placement.ok()) << placement.error().message;
  EXPECT_EQ(CountBootstraps(*placement), 20);
  for (const NodeId part : parts) EXPECT_TRUE(placement->bootstrapped[part]);
}

TEST(Levels, RefusesMorePlacesThanItCanTry) {
  const auto params = Params();
  GraphBuilder b(9);
  NodeId x = b.Input("x", 4);
  b.Enter(0, Component::kPower, "");
  for (int i = 0; i < 16; ++i) b.MarkCut(x = b.Conjugate("conjugate", x));
  b.graph().outputs = {x};
  const auto placement = PlaceBootstraps(b.graph(), *params, CostModel(params, {}));
  ASSERT_FALSE(placement.ok());
  EXPECT_NE(placement.error().message.find("16 places for bootstraps > 15"), std::string::npos);
}

TEST(Levels, RefusesALayerDeeperThanTheChain) {
  const auto params = Params();
  const CostModel cost(params, {});
  const auto placement = PlaceBootstraps(Chain(1, params->working_level() + 1), *params, cost);
  ASSERT_FALSE(placement.ok());
  EXPECT_EQ(placement.error().code, ErrorCode::kOutOfRange);
  EXPECT_NE(placement.error().message.find("layer 0"), std::string::npos);
}

TEST(Levels, DepthOfAPolynomial) {
  Node node;
  node.kind = OpKind::kChebyshev;
  for (auto [degree, depth] : {std::pair{1, 1}, {2, 2}, {3, 2}, {7, 3}, {8, 4}, {15, 4}, {31, 5}}) {
    node.coeffs.assign(degree + 1, 1.0);
    EXPECT_EQ(Depth(node), depth) << degree;
  }
}

}  // namespace
}  // namespace polyveil::compile
