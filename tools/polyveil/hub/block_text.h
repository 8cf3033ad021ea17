// How programs of blocks are described on the screen and in JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "compile/compiled_blocks.h"
#include "polyveil/hub/block_inputs.h"

namespace polyveil::tools {

void AddDegrees(CLI::App& app, BlockDegrees& degrees);
std::string EstimateToText(const compile::CompiledBlocks& program);
nlohmann::json EstimateToJson(const compile::CompiledBlocks& program);

}  // namespace polyveil::tools
