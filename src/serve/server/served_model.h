// Loads and compiles what a server serves.
#pragma once

#include <memory>
#include <string>

#include "compile/compiled_decoder.h"
#include "model/client_files.h"
#include "model/formats/token_embedding.h"
#include "model/import/decoder_files.h"
#include "serve/protocol.h"
#include "serve/server/service_limits.h"

namespace polyveil::serve {

struct ServeOptions : model::DecoderOptions {
  compile::DecoderPrograms programs;
  bool choose = false;  // programs.choice from the model's files (load_choice.h)
};

struct ServedModel {
  std::shared_ptr<const compile::CompiledDecoder> model;
  ModelInfo info;  // without the service's limits
  std::shared_ptr<const model::Decoder> decoder;
  // Null for a model that came without: then it takes no public context either.
  std::shared_ptr<const model::ClientFiles> client;
  std::shared_ptr<const model::TokenEmbedding> embedding;
};

// Adds the client's half. Errors: those of LoadTokenEmbedding.
Status AddClientHalf(std::shared_ptr<const model::ClientFiles> client, ServedModel& served);

// The body of the model at `path`, compiled for the named parameter set. The plan depends on
// the model and the parameters only (keys made on one machine serve on another); the estimate is of
// this machine. Errors: those of the model's loader, the parameters and the compiler.
// Keys are described as a server with `limits` keeps its first client's. A bundle's context is its
// own or less (kInvalidArgument above).
Result<ServedModel> LoadServedModel(const std::string& path, const std::string& parameters,
                                    const std::string& version, const ServiceLimits& limits = {},
                                    const ServeOptions& options = {});
// The same from a model at hand.
Result<ServedModel> ServeDecoder(std::shared_ptr<const model::Decoder> decoder,
                                 const std::string& parameters, const std::string& version,
                                 const ServiceLimits& limits = {},
                                 const compile::DecoderPrograms& programs = {});

// Before any client sends gigabytes to a machine, or into a container, that would swap or kill the
// server: kResource (both values).
Status CheckMemory(const ModelInfo& info);

// Fills in what keys take in memory and add to a token when those of `expanded` are expanded.
// Requires info.estimate.
void DescribeKeyStorage(const compile::CompiledProgram& model, const ckks::KeyRequest& expanded,
                        ModelInfo& info);

}  // namespace polyveil::serve
