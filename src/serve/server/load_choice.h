// A choice of tokens from a model's files: the client's tables and choice.json beside them.
#pragma once

#include <memory>
#include <string>

#include "compile/choice_lowering.h"
#include "model/client_files.h"

namespace polyveil::serve {

// path: the model's folder or file; choice.json stands in the folder. Errors: kNotFound where there
// is none (the command that makes it named), those of ParseChoiceForms and LoadChoiceTables.
Result<std::shared_ptr<const compile::Choice>> LoadChoice(const std::string& path,
                                                          const model::ClientFiles& client);

// Where choice.json of this model stands.
std::string ChoicePath(const std::string& path);

}  // namespace polyveil::serve
