#include "polyveil/remote_limits.h"

#include "base/command_line.h"
#include "base/interrupt.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {

void AddRemoteLimits(Options& app, RemoteLimits& limits) {
  AddNumber(app, "--max-key-gigabytes", limits.max_key_gigabytes, {1e-3, 1e6},
            "refuse a server that asks for more evaluation keys (10^9 bytes)");
  AddNumber(app, "--max-step-seconds", limits.max_step_seconds, {1e-3, 1e7},
            "give up on a token that takes longer");
  AddNumber(app, "--retry-seconds", limits.retry_seconds, {1e-3, 1e6},
            "how long a lost connection or reply is tried anew");
}

serve::RemoteOptions ToRemoteOptions(const RemoteLimits& limits, bool allow_insecure) {
  serve::RemoteOptions options;
  options.allow_insecure = allow_insecure;
  options.max_key_bytes = static_cast<u64>(limits.max_key_gigabytes * 1e9);
  options.max_step_seconds = limits.max_step_seconds;
  options.retry_seconds = limits.retry_seconds;
  options.cancel = &Interrupted();
  return options;
}

}  // namespace polyveil::tools
