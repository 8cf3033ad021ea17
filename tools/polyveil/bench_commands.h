// The subcommands of `polyveil bench` (see commands.h).
#pragma once

#include "polyveil/commands.h"

namespace polyveil::tools {

Command DescribeBenchBootstrap(CLI::App& app);
Command DescribeBenchEngine(CLI::App& app);
Command DescribeBenchSoak(CLI::App& app);
// With POLYVEIL_HUB.
Command DescribeBenchLayer(CLI::App& app);

}  // namespace polyveil::tools
