// Compiles a model for the engine: the compiler's plan with the keys that the circuits' bootstraps
// need.
#pragma once

#include <memory>

#include "base/result.h"
#include "compile/compiled_decoder.h"

namespace polyveil::runtime {

compile::CircuitKeys MakeCircuitKeys(const ckks::ParametersPtr& params);

// The parameter set for these programs where none is named. causal: of a decoder.
const char* DefaultParameters(const compile::DecoderPrograms& programs, bool causal = true);

Result<std::shared_ptr<const compile::CompiledDecoder>> CompileModel(
    std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
    const compile::MachineSpeed& speed, const compile::DecoderPrograms& programs = {});

}  // namespace polyveil::runtime
