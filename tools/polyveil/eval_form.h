// What evaluates a bundle in `polyveil eval`: float64, the noise simulator, ciphertexts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "eval/bundle_scorer.h"

namespace polyveil::tools {

struct FormOptions {
  // polynomial, exact: float64; simulated: the program with the noise of the parameters, a seed for
  // each example; encrypted: the engine in this process, keys of its own that are never stored.
  std::string evaluation = "polynomial", parameters = "decode16";
  std::uint64_t seed = 1;
  bool insecure = false;  // parameters for tests are allowed
};

struct Form {
  std::unique_ptr<model::TextScorer> scorer;
  double seconds_per_token = 0;  // an estimate; 0 where it is not worth telling
};

// `encrypted` says on stderr what it is about to run, then makes keys. Errors:
// those of compilation; kSecurity for parameters for tests unless allowed.
Result<Form> MakeForm(std::shared_ptr<const model::LanguageModelBundle> bundle,
                      const FormOptions& options);

}  // namespace polyveil::tools
