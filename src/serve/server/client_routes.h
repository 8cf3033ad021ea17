// Sends the client's half of the model: what its files are, and their bytes by digest.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/client_files.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

// [first, end) of a resource that a Range field asks for. Errors: kOutOfRange for bytes that are
// not there. Nothing for a field that names no single range from a first byte on: it asks for the
// whole.
Result<std::optional<std::pair<u64, u64>>> ParseRange(std::string_view field, u64 size);

class ClientRoutes {
 public:
  // files: null where the server has no client's half to send. Cost: SHA-256 over all bytes.
  explicit ClientRoutes(std::shared_ptr<const model::ClientFiles> files);

  // path: the segments behind v1/model/client. Answers GET, or returns the error to answer with.
  Status Handle(Exchange& exchange, const std::vector<std::string>& path) const;

 private:
  Status SendFile(Exchange& exchange, const std::string& digest) const;

  std::shared_ptr<const model::ClientFiles> files_;
  std::string manifest_;
  std::map<std::string, const model::ClientFile*> by_digest_;
};

}  // namespace polyveil::serve
