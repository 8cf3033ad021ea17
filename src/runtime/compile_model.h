// Compiles a model for the engine: the compiler's plan with the keys that the circuits' bootstraps
// need.
#pragma once

#include <memory>

#include "base/result.h"
#include "compile/compiled_decoder.h"

namespace polyveil::runtime {

compile::CircuitKeys MakeCircuitKeys(const ckks::ParametersPtr& params);

Result<std::shared_ptr<const compile::CompiledDecoder>> CompileModel(
    std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
    const compile::MachineSpeed& speed, int known = 0);

// The program of prompts of up to `groups` d_head tokens at once, beside a decoding one.
Result<std::shared_ptr<const compile::CompiledDecoder>> CompilePrompt(
    const compile::CompiledDecoder& step, int groups);

}  // namespace polyveil::runtime
