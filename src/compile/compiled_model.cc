#include "compile/compiled_model.h"

#include <utility>

#include "compile/lower.h"

namespace polyveil::compile {

CompiledModel::CompiledModel(std::shared_ptr<const model::BodyBundle> bundle,
                             ckks::ParametersPtr params, const MachineSpeed& speed)
    : CompiledProgram(std::move(params), speed, MakeResidualUnits(bundle->config)),
      bundle_(std::move(bundle)) {}

Result<std::shared_ptr<const CompiledModel>> CompiledModel::Create(
    std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
    const MachineSpeed& speed, const CircuitKeys& circuits) {
  std::shared_ptr<CompiledModel> model(
      new CompiledModel(std::move(bundle), std::move(params), speed));
  PV_ASSIGN_OR_RETURN(model->layout_,
                      Layout::Create(model->bundle_->config, model->params()->log_slots()));
  PV_RETURN_IF_ERROR(model->Plan(circuits));
  return std::shared_ptr<const CompiledModel>(std::move(model));
}

Result<Graph> CompiledModel::Lower(int position) const {
  return LowerStep(*bundle_, layout_, position);
}

std::string CompiledModel::Description() const {
  model::ModelConfig computed = bundle_->config;
  computed.certificate.reset();  // what is known of the program is no part of it
  return model::FormatModelConfig(computed);
}

}  // namespace polyveil::compile
