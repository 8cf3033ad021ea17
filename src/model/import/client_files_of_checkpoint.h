// The client's half of a released model as files, from its checkpoint: no layer is read.
#pragma once

#include <memory>
#include <string>

#include "model/client_files.h"

namespace polyveil::model {

struct Checkpoint;

// model_digest: of the server's half, or empty. Tables stay where they are mapped. Errors:
// kInvalidArgument for what is neither a pre-norm decoder with a head nor a post-norm encoder,
// kOutOfRange for a prefix that fills the context, those of the tokenizer's files.
Result<ClientFiles> ClientFilesOfCheckpoint(const std::shared_ptr<const Checkpoint>& checkpoint,
                                            const std::string& name,
                                            const std::string& model_digest = {});

}  // namespace polyveil::model
