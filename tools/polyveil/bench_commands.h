// The subcommands of `polyveil bench` (see commands.h).
#pragma once

#include "polyveil/commands.h"

namespace polyveil::tools {

Command DescribeBenchAttention(Options& app);
Command DescribeBenchBootstrap(Options& app);
Command DescribeBenchEngine(Options& app);
Command DescribeBenchSoak(Options& app);
// With POLYVEIL_RELEASED.
Command DescribeBenchDrafts(Options& app);
Command DescribeBenchLayer(Options& app);

}  // namespace polyveil::tools
