#include "runtime/compile_model.h"

#include <utility>

#include "circuits/bootstrapper.h"

namespace polyveil::runtime {

Result<std::shared_ptr<const compile::CompiledModel>> CompileModel(
    std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
    const compile::MachineSpeed& speed) {
  auto keys = [params](int log_period, bool real) {
    return circuits::Bootstrapper::Keys(*params, circuits::BootstrapSpec{log_period, !real});
  };
  return compile::CompiledModel::Create(std::move(bundle), std::move(params), speed, keys);
}

}  // namespace polyveil::runtime
