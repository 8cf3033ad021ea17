// The verbs of polyveil-train, each with a page of help of its own; tools/train_main.cc names them.
#pragma once

#include "base/command_line.h"

namespace polyveil::train {

Command DescribePrepare(CLI::App& app);
Command DescribeRun(CLI::App& app);
Command DescribeEval(CLI::App& app);
Command DescribeRanges(CLI::App& app);
Command DescribeConvert(CLI::App& app);
Command DescribeStudy(CLI::App& app);
Command DescribeSearch(CLI::App& app);
Command DescribeBaseline(CLI::App& app);
Command DescribeExport(CLI::App& app);
Command DescribeSample(CLI::App& app);

}  // namespace polyveil::train
