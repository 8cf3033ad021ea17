// Where levels go along a program.
#pragma once

#include <vector>

#include "compile/graph.h"

namespace polyveil::compile {

// Neighbouring values of one layer and component: the highest level that they read and the lowest
// that they leave; of bootstraps the level that they raise from and the one they raise to.
struct LevelStage {
  Component component = Component::kInput;
  int layer = -1;  // -1: outside the layers
  int from = 0, to = 0;
};

// In the program's order, without what comes in. Requires levels.
std::vector<LevelStage> LevelStages(const Graph& graph);

}  // namespace polyveil::compile
