// The commands of polyveil: each describes its options to CLI11 and runs.
#pragma once

#include "base/command_line.h"

namespace polyveil::tools {

// Adds the subcommand's options to `app` and returns what to run once they are parsed.
Command DescribeKeygen(Options& app);
Command DescribeInfo(Options& app);
Command DescribeGenerate(Options& app);
Command DescribeChat(Options& app);
Command DescribeSubmit(Options& app);
Command DescribeCollect(Options& app);
Command DescribeEmbed(Options& app);
Command DescribeClassify(Options& app);
Command DescribeProxy(Options& app);
Command DescribePlan(Options& app);
Command DescribeVerify(Options& app);
Command DescribeSimulate(Options& app);
Command DescribeFitChoice(Options& app);
Command DescribeBench(Options& app);
// With POLYVEIL_RELEASED.
Command DescribeImport(Options& app);
Command DescribeEval(Options& app);
Command DescribeFit(Options& app);

// Replaces this process by another program. Returns only to say why it could not.
Status ExecProgram(const char* program, int argc, char** argv);

}  // namespace polyveil::tools
