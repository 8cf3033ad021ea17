// How programs of blocks are described on the screen and in JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/command_line.h"
#include "compile/compiled_decoder.h"
#include "polyveil/block_inputs.h"

namespace polyveil::tools {

void AddDegrees(Options& app, BlockDegrees& degrees);
std::string EstimateToText(const compile::CompiledDecoder& program);
nlohmann::json EstimateToJson(const compile::CompiledDecoder& program);

}  // namespace polyveil::tools
