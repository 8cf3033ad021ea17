// The client's half of a model: from its files, or from the server that has them.
#pragma once

#include <memory>
#include <string>

#include "model/client/client_half.h"
#include "serve/client/client_cache.h"
#include "serve/client/remote_model.h"

namespace polyveil::serve {

using ClientHalfPtr = std::shared_ptr<const model::ClientHalf>;

// Of a bundle's folder, and with POLYVEIL_RELEASED of a released or converted model's or a *.gguf
// file. Errors: kNotFound, those of the readers.
Result<ClientHalfPtr> LoadClientHalf(const std::string& path);

// The one that the server sends, from the user's cache folder once it is there. Errors: those of
// FetchClientFiles, kMismatch (widths).
Result<ClientHalfPtr> FetchClientHalf(RemoteModel& remote, const ClientCacheOptions& options);

}  // namespace polyveil::serve
