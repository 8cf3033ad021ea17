// polyveil-train distil.
#pragma once

#include "base/command_line.h"

namespace polyveil::train {

Command DescribeDistil(Options& app);

}  // namespace polyveil::train
