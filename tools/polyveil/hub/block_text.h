// How programs of blocks are described on the screen and in JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "compile/compiled_decoder.h"
#include "polyveil/hub/block_inputs.h"

namespace polyveil::tools {

void AddDegrees(CLI::App& app, BlockDegrees& degrees);
std::string EstimateToText(const compile::CompiledDecoder& program);
nlohmann::json EstimateToJson(const compile::CompiledDecoder& program);

}  // namespace polyveil::tools
