#include "serve/server/served_model.h"

#include "base/thread_pool.h"
#include "ckks/key_storage.h"
#include "ring/kernels.h"
#include "runtime/compile_model.h"
#include "serve/server/key_store.h"
#include "wire/key_format.h"

namespace polyveil::serve {
namespace {

void DescribeModel(const compile::CompiledModel& model, ModelInfo& info) {
  info.tensors_sha256 = model.bundle().config.tensors_sha256;
  info.program_digest = model.digest();
  info.context = model.context();
  info.d_model = model.bundle().config.d_model;
  info.input_unit = model.units().input;
  info.result_unit = model.units().result();
  info.result = runtime::BoundsOfResult(model.bundle().config);
  info.input_level = model.input_level();
  info.output_level = model.output_level();
  info.keys = model.keys();
}

}  // namespace

void DescribeKeyStorage(const compile::CompiledModel& model, const ckks::KeyRequest& expanded,
                        ModelInfo& info) {
  const ckks::Parameters& params = *model.params();
  const auto limbs = [&](const ckks::KeyRequest& some) {
    return ckks::LimbsToExpand(params, model.keys(), some, model.key_uses());
  };
  info.key_set_bytes = ckks::KeyMemoryBytes(params, model.keys(), expanded);
  const double all = limbs({});
  info.key_expansion_seconds = all > 0 ? info.estimate.compact_seconds * limbs(expanded) / all : 0;
}

Result<ServedModel> ServeBundle(std::shared_ptr<const model::BodyBundle> bundle,
                                const std::string& name, const std::string& parameters,
                                const std::string& version, const ServiceLimits& limits) {
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(parameters));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  ServedModel served;
  PV_ASSIGN_OR_RETURN(served.model, runtime::CompileModel(bundle, params, compile::MachineSpeed{}));
  const int threads = static_cast<int>(Threads());
  const auto speed = compile::MeasureMachineSpeed(params->log_n(), threads);
  PV_ASSIGN_OR_RETURN(const auto timed, runtime::CompileModel(bundle, params, speed));
  ModelInfo& info = served.info;
  info.name = name;
  DescribeParameters(*params, info);
  DescribeModel(*served.model, info);
  info.estimate = served.model->estimate();
  info.estimate.seconds_per_token = timed->estimate().seconds_per_token;
  info.estimate.key_generation_seconds = timed->estimate().key_generation_seconds;
  info.estimate.compact_seconds = timed->estimate().compact_seconds;
  info.estimate.component_seconds = timed->estimate().component_seconds;
  info.key_storage = ckks::KeyStorageName(limits.key_storage);
  DescribeKeyStorage(*served.model, AllotKeys(*served.model, limits, 0).expanded, info);
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*params, info.keys));
  info.key_stream_bytes = wire::StreamBytes(manifest);
  info.threads = threads;
  info.backend = ring::ActiveKernels().name;
  info.version = version;
  return served;
}

Result<ServedModel> LoadServedModel(const std::string& directory, const std::string& parameters,
                                    const std::string& version, const ServiceLimits& limits) {
  PV_ASSIGN_OR_RETURN(auto body, model::LoadBodyBundle(directory));
  PV_ASSIGN_OR_RETURN(ServedModel served,
                      ServeBundle(std::make_shared<model::BodyBundle>(std::move(body)),
                                  model::NameOfModel(directory), parameters, version, limits));
  PV_ASSIGN_OR_RETURN(model::ClientFiles client, model::ClientFilesOfBundle(directory));
  served.client = std::make_shared<const model::ClientFiles>(std::move(client));
  return served;
}

}  // namespace polyveil::serve
