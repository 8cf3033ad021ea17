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

struct ChildServerOptions {
  std::string model, parameters;
  std::string keys;  // how it keeps them: ckks::KeyStorageName
  size_t threads = 0;
  double largest_error = 0;  // what it accepts of a predicted error of the logits
  int context = 0;           // 0: the model's choice
  bool at_once = false;      // reads prompts at once too
  int texts = 1;             // decoded together
  bool head = false;         // runs an encoder's classification head
};

class ChildServer {
 public:
  // On a free port; waits until it answers. Errors: kNotFound, kUnavailable (how it ended),
  // kCancelled.
  static Result<std::unique_ptr<ChildServer>> Start(const ChildServerOptions& options,
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
