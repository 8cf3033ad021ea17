// The server's log on stderr: a line for each request with its id, the start and the end. No name
// of keys or sessions, no token, nothing of a body.
#pragma once

#include <memory>
#include <string>

#include "serve/server/operations.h"

namespace spdlog {
class logger;
}

namespace polyveil {

class ServerLog {
 public:
  // level: error, warning, info, debug.
  explicit ServerLog(const std::string& level);
  void Say(const std::string& line) const;
  serve::RequestLog requests() const;

 private:
  std::shared_ptr<spdlog::logger> log_;
};

}  // namespace polyveil
