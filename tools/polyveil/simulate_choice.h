// What `simulate --choose` prints: texts whose tokens the server chooses, on the simulator.
#pragma once

#include <string>
#include <vector>

#include "serve/client/simulated_choice.h"

namespace polyveil::tools {

struct ChosenTexts {
  serve::ChoosingRun run;
  int draws = 0;
  std::string parameters, json;  // json: a file, or none
};

Status SimulateChosenTexts(const serve::SimulationSetup& setup,
                           const std::vector<std::vector<model::TokenId>>& texts,
                           const ChosenTexts& options);

}  // namespace polyveil::tools
