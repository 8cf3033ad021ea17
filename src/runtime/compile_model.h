// Compiles a model for the engine: the compiler's plan with the keys that the circuits' bootstraps
// need.
#pragma once

#include <memory>

#include "base/result.h"
#include "compile/compiled_model.h"

namespace polyveil::runtime {

compile::CircuitKeys MakeCircuitKeys(const ckks::ParametersPtr& params);

Result<std::shared_ptr<const compile::CompiledModel>> CompileModel(
    std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
    const compile::MachineSpeed& speed);

}  // namespace polyveil::runtime
