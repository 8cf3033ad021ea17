// Loads and compiles what a server serves.
#pragma once

#include <memory>
#include <string>

#include "serve/protocol.h"

namespace polyveil::serve {

struct ServedModel {
  std::shared_ptr<const compile::CompiledModel> model;
  ModelInfo info;  // without the service's limits
};

// The body of the model in `directory`, compiled for the named parameter set. The plan depends on
// the model and the parameters only (keys made on one machine serve on another); the estimate is of
// this machine. Errors: those of the bundle's loader, the parameters and the compiler.
Result<ServedModel> LoadServedModel(const std::string& directory, const std::string& parameters,
                                    const std::string& version);
// The same from a bundle at hand.
Result<ServedModel> ServeBundle(std::shared_ptr<const model::BodyBundle> bundle,
                                const std::string& name, const std::string& parameters,
                                const std::string& version);

}  // namespace polyveil::serve
