// What the user puts up with from a server and shows it, as options.
#pragma once

#include "base/command_line.h"
#include "serve/client/remote_model.h"

namespace polyveil::tools {

struct RemoteLimits {
  double max_key_gigabytes = 8;
  double max_step_seconds = 6 * 3600;
  double retry_seconds = 30;
  serve::TlsFiles tls;
  std::string token_file;
  bool plain_http = false;
};

void AddRemoteLimits(Options& app, RemoteLimits& limits);
// With Ctrl-C as the cancellation. Errors: those of MakeClientTls and of reading the token, which
// $POLYVEIL_TOKEN gives where no file is named.
Result<serve::RemoteOptions> ToRemoteOptions(const RemoteLimits& limits, bool allow_insecure);

}  // namespace polyveil::tools
