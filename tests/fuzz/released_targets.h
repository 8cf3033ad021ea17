// The parsers of released models' files as targets.
#pragma once

#include "fuzz/targets.h"

namespace polyveil::testing {

void AddReleasedTargets(std::vector<FuzzTarget>& targets);

}  // namespace polyveil::testing
