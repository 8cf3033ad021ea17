// The tables of the client's half as a server that chooses tokens reads them.
#pragma once

#include <memory>

#include "base/result.h"
#include "model/choice.h"
#include "model/client_files.h"

namespace polyveil::model {

// Decodes embedding and head to float32: 8 bytes for each of vocabulary x width where the head is
// the embedding. Errors: those of ParseClientConfig and of its tensors, kInvalidArgument, by name,
// for what no choice can do: an encoder, a table of pairs of tokens, a norm of the embedding, no
// last norm, a last norm that subtracts a mean which the residual has.
Result<std::shared_ptr<const ChoiceTables>> LoadChoiceTables(const ClientFiles& files);

}  // namespace polyveil::model
