// The client's half of whatever stands at a path, and of files that a server has sent.
#pragma once

#include <memory>
#include <string>

#include "model/client/client_half.h"

namespace polyveil::model {

// A bundle's folder, a released or converted model's, or a *.gguf file. Errors: those of the files'
// readers.
Result<ClientFiles> ClientFilesOf(const std::string& path);

// With the tokenizer that the files have. text_only: as of ClientHalf::Create, whose errors and
// TextTokenizer's it has.
Result<std::shared_ptr<const ClientHalf>> MakeClientHalf(ClientFiles files, bool text_only = false);

inline Result<std::shared_ptr<const ClientHalf>> LoadClientHalf(const std::string& path) {
  PV_ASSIGN_OR_RETURN(ClientFiles files, ClientFilesOf(path));
  return MakeClientHalf(std::move(files));
}

}  // namespace polyveil::model
