// A polyveil-server on loopback that lives as long as this object.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "serve/client/http_client.h"

namespace polyveil::tools {

// The program of this name beside this one, where a build puts it (the trainer: of this build, or
// of
// ./test.sh's beside it), or in the PATH. Errors: kNotFound names the places.
Result<std::string> FindProgram(const std::string& name);

class ChildServer {
 public:
  // keys: how it keeps keys (ckks::KeyStorageName). largest_error: what it accepts of a predicted
  // error of the logits. Starts it on a free port and waits until it
  // answers. Errors: kNotFound, kUnavailable (how it ended), kCancelled.
  static Result<std::unique_ptr<ChildServer>> Start(const std::string& model,
                                                    const std::string& parameters,
                                                    const std::string& keys, size_t threads,
                                                    double largest_error,
                                                    const std::atomic<bool>& cancel);
  // SIGTERM, and SIGKILL when it does not listen.
  ~ChildServer();

  const serve::Url& url() const { return url_; }
  // How the process ended ("killed by signal 9"); empty while it runs.
  std::string HowItEnded();

 private:
  ChildServer() = default;
  Status WaitReady(int fd, const std::atomic<bool>& cancel);

  pid_t pid_ = -1;
  std::string ended_;
  serve::Url url_;
};

}  // namespace polyveil::tools
