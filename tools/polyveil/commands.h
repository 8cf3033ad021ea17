// The commands of polyveil: each describes its options to CLI11 and runs.
#pragma once

#include "base/command_line.h"

namespace polyveil::tools {

// Adds the subcommand's options to `app` and returns what to run once they are parsed.
Command DescribeKeygen(CLI::App& app);
Command DescribeInfo(CLI::App& app);
Command DescribeGenerate(CLI::App& app);
Command DescribeChat(CLI::App& app);
Command DescribePlan(CLI::App& app);
Command DescribeSimulate(CLI::App& app);
Command DescribeBench(CLI::App& app);
Command DescribeForms(CLI::App& app);
// With POLYVEIL_HUB.
Command DescribeImport(CLI::App& app);
Command DescribeEval(CLI::App& app);
Command DescribeEstimate(CLI::App& app);
Command DescribeFit(CLI::App& app);

// Replaces this process by another program. Returns only to say why it could not.
Status ExecProgram(const char* program, int argc, char** argv);

}  // namespace polyveil::tools
