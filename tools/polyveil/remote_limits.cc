#include "polyveil/remote_limits.h"

#include <cmath>

#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

void AddPositive(CLI::App& app, const char* name, double& value, double most, const char* text) {
  app.add_option(name, value, text)
      ->capture_default_str()
      ->check(CLI::Range(1e-3, most))
      ->check([](const std::string& word) {
        // CLI::Range lets NaN pass.
        return std::isfinite(std::strtod(word.c_str(), nullptr)) ? "" : word + " is no number";
      });
}

}  // namespace

void AddRemoteLimits(CLI::App& app, RemoteLimits& limits) {
  AddPositive(app, "--max-key-gigabytes", limits.max_key_gigabytes, 1e6,
              "refuse a server that asks for more evaluation keys (10^9 bytes)");
  AddPositive(app, "--max-step-seconds", limits.max_step_seconds, 1e7,
              "give up on a token that takes longer");
  AddPositive(app, "--retry-seconds", limits.retry_seconds, 1e6,
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
