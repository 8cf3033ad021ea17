#include "serve/server/served_model.h"

#include "base/system.h"
#include "base/thread_pool.h"
#include "ckks/key_storage.h"
#include "model/formats/checkpoint.h"
#include "model/import/client_files_of_checkpoint.h"
#include "ring/kernels.h"
#include "runtime/compile_model.h"
#include "serve/server/key_store.h"
#include "serve/server/load_choice.h"
#include "wire/key_format.h"

namespace polyveil::serve {
namespace {

void DescribeProgram(const compile::CompiledDecoder& program, ModelInfo& info) {
  if (!program.prompts().empty()) {
    const compile::TokenLayout layout = program.prompts().front()->token_layout();
    info.prompt_row_slots = layout.size;
    info.prompt_blocks = layout.blocks;
  }
  for (const auto& prompt : program.prompts())
    info.prompts.push_back({prompt->prompt_tokens(), prompt->input_level(), prompt->output_level(),
                            prompt->estimate().seconds_per_token});
  info.program_digest = program.digest();
  info.context = program.context();
  info.texts = program.texts();
  info.encoder = !program.keeps_caches();
  info.labels = program.decoder().head ? program.decoder().head->labels() : 0;
  info.d_model = program.width();
  info.input_unit = program.units().input;
  info.result_unit = program.units().result();
  info.input_level = program.input_level();
  info.output_level = program.output_level();
  info.keys = program.keys();
}

}  // namespace

Result<ServedModel> ServeDecoder(std::shared_ptr<const model::Decoder> decoder,
                                 const std::string& parameters, const std::string& version,
                                 const ServiceLimits& limits,
                                 const compile::DecoderPrograms& programs) {
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec,
                      ckks::FindParameters(parameters.empty() ? runtime::DefaultParameters(
                                                                    programs, decoder->causal())
                                                              : parameters));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  ServedModel served;
  const int threads = static_cast<int>(Threads());
  auto speed = compile::MeasureMachineSpeed(params->log_n(), threads);
  if (limits.weight_bytes) speed.weight_bytes = *limits.weight_bytes;
  PV_ASSIGN_OR_RETURN(served.model, runtime::CompileModel(decoder, params, speed, programs));
  served.info.name = decoder->name;
  served.info.tensors_sha256 = decoder->digest;
  served.decoder = std::move(decoder);
  ModelInfo& info = served.info;
  DescribeParameters(*params, info);
  DescribeProgram(*served.model, info);
  info.result = runtime::BoundsOfResult(*served.decoder, served.model->units());
  info.estimate = served.model->estimate();
  if (const auto& choice = served.model->choice())
    info.choice = {choice->layout().vocabulary, choice->choice().forms.temperature,
                   choice->estimate().seconds_per_token, choice->prompt()->input_level(),
                   choice->prompt()->estimate().seconds_per_token};
  info.key_storage = ckks::KeyStorageName(limits.key_storage);
  DescribeKeyStorage(*served.model, AllotKeys(*served.model, limits, 0).expanded, info);
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*params, info.keys));
  info.key_stream_bytes = wire::StreamBytes(manifest);
  info.threads = threads;
  info.backend = ring::ActiveKernels().name;
  info.version = version;
  return served;
}

Status AddClientHalf(std::shared_ptr<const model::ClientFiles> client, ServedModel& served) {
  PV_ASSIGN_OR_RETURN(served.embedding, model::LoadTokenEmbedding(client));
  served.client = std::move(client);
  served.info.public_tokens = served.model->most_known();
  return {};
}

void DescribeKeyStorage(const compile::CompiledProgram& model, const ckks::KeyRequest& expanded,
                        ModelInfo& info) {
  const ckks::Parameters& params = *model.params();
  const auto limbs = [&](const ckks::KeyRequest& some) {
    return ckks::LimbsToExpand(params, model.keys(), some, model.key_uses());
  };
  info.key_set_bytes = ckks::KeyMemoryBytes(params, model.keys(), expanded);
  const double all = limbs({});
  info.key_expansion_seconds = all > 0 ? info.estimate.compact_seconds * limbs(expanded) / all : 0;
}

namespace {

struct Halves {
  std::shared_ptr<const model::Decoder> decoder;
  model::ClientFiles client;
};

Result<Halves> LoadHalves(const std::string& path, const model::DecoderOptions& options) {
  Halves halves;
  if (model::IsBundle(path)) {
    PV_ASSIGN_OR_RETURN(halves.decoder, model::LoadDecoder(path, options));
    PV_ASSIGN_OR_RETURN(halves.client, model::ClientFilesOfBundle(path));
    return halves;
  }
  const std::string name = options.NameOf(path);
  PV_ASSIGN_OR_RETURN(const auto checkpoint, model::LoadCheckpoint(path, options.adapter));
  PV_ASSIGN_OR_RETURN(halves.decoder, model::DecoderOfCheckpoint(checkpoint, name, options));
  PV_ASSIGN_OR_RETURN(halves.client,
                      model::ClientFilesOfCheckpoint(checkpoint, name, halves.decoder->digest));
  return halves;
}

}  // namespace

Result<ServedModel> LoadServedModel(const std::string& path, const std::string& parameters,
                                    const std::string& version, const ServiceLimits& limits,
                                    const ServeOptions& options) {
  PV_ASSIGN_OR_RETURN(Halves halves, LoadHalves(path, options));
  compile::DecoderPrograms programs = options.programs;
  if (options.choose) {
    PV_ASSIGN_OR_RETURN(programs.choice, LoadChoice(path, halves.client));
  }
  PV_ASSIGN_OR_RETURN(ServedModel served, ServeDecoder(std::move(halves.decoder), parameters,
                                                       version, limits, programs));
  PV_RETURN_IF_ERROR(
      AddClientHalf(std::make_shared<const model::ClientFiles>(std::move(halves.client)), served));
  return served;
}

Status CheckMemory(const ModelInfo& info) {
  const u64 available = MemoryBytes();
  if (available == 0 || info.server_bytes() <= available) return {};
  return MakeError(ErrorCode::kResource,
                   "model '{}' needs {:.2f} GB of memory for one client's keys and a step, this "
                   "process may use {:.2f} GB (the machine's, or its control group's limit)",
                   info.name, static_cast<double>(info.server_bytes()) / 1e9,
                   static_cast<double>(available) / 1e9);
}

}  // namespace polyveil::serve
