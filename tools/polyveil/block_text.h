// How programs of blocks are described on the screen and in JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "compile/compiled_decoder.h"

namespace polyveil::tools {

std::string EstimateToText(const compile::CompiledDecoder& program);
nlohmann::json EstimateToJson(const compile::CompiledDecoder& program);

}  // namespace polyveil::tools
