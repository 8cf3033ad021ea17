// What the user puts up with from a server, as options.
#pragma once

#include "base/command_line.h"
#include "serve/client/remote_model.h"

namespace polyveil::tools {

struct RemoteLimits {
  double max_key_gigabytes = 8;
  double max_step_seconds = 6 * 3600;
  double retry_seconds = 30;
};

void AddRemoteLimits(Options& app, RemoteLimits& limits);
// With Ctrl-C as the cancellation.
serve::RemoteOptions ToRemoteOptions(const RemoteLimits& limits, bool allow_insecure);

}  // namespace polyveil::tools
