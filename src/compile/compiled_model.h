// A bundle's model compiled for a parameter set.
#pragma once

#include <memory>
#include <string>

#include "compile/compiled_program.h"
#include "compile/layout.h"
#include "model/bundle.h"

namespace polyveil::compile {

class CompiledModel : public CompiledProgram {
 public:
  // Lowers, places bootstraps, assigns levels; callers above the circuits use
  // runtime::CompileModel. Errors: kOutOfRange when no placement fits the levels or when the ring
  // has too few slots for the model's shape, kInvalidArgument for a model form that has no program.
  static Result<std::shared_ptr<const CompiledModel>> Create(
      std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
      const MachineSpeed& speed, const CircuitKeys& circuits);

  const model::BodyBundle& bundle() const { return *bundle_; }
  const Layout& layout() const { return layout_; }
  int state_count() const override { return bundle_->config.n_layers; }
  int context() const override { return bundle_->config.context; }
  int width() const override { return bundle_->config.d_model; }

 private:
  CompiledModel(std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
                const MachineSpeed& speed);
  Result<Graph> Lower(int position) const override;
  std::string Description() const override;

  std::shared_ptr<const model::BodyBundle> bundle_;
  Layout layout_;
};

}  // namespace polyveil::compile
