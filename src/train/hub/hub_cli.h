// polyveil-train convert-hub.
#pragma once

#include "base/command_line.h"

namespace polyveil::train {

Command DescribeConvertHub(Options& app);

}  // namespace polyveil::train
