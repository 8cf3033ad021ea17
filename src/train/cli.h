// The verbs of polyveil-train, each with a page of help of its own; tools/train_main.cc names them.
#pragma once

#include "base/command_line.h"

namespace polyveil::train {

Command DescribePrepare(Options& app);
Command DescribeRun(Options& app);
Command DescribeEval(Options& app);
Command DescribeRanges(Options& app);
Command DescribeConvert(Options& app);
Command DescribeStudy(Options& app);
Command DescribeSearch(Options& app);
Command DescribeBaseline(Options& app);
Command DescribeExport(Options& app);
Command DescribeSample(Options& app);

}  // namespace polyveil::train
