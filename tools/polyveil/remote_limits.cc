#include "polyveil/remote_limits.h"

#include <algorithm>
#include <cstdlib>

#include "base/command_line.h"
#include "base/interrupt.h"
#include "polyveil/terminal.h"
#include "wire/file.h"

namespace polyveil::tools {
namespace {

constexpr size_t kMaxTokenBytes = 512;

// Printable characters only: it becomes a field of a header.
Result<std::string> ReadToken(const std::string& file) {
  const char* variable = std::getenv("POLYVEIL_TOKEN");
  std::string token = variable ? variable : "";
  if (!file.empty()) {
    PV_ASSIGN_OR_RETURN(const auto bytes, wire::ReadPrivateFile(file, kMaxTokenBytes));
    token.assign(bytes.begin(), bytes.end());
    while (token.ends_with('\n') || token.ends_with('\r')) token.pop_back();
  }
  const bool plain = std::ranges::all_of(token, [](char c) { return c > ' ' && c < 0x7f; });
  if (plain && (!token.empty() || file.empty())) return token;
  return MakeError(ErrorCode::kInvalidArgument, "{}: no token",
                   file.empty() ? "$POLYVEIL_TOKEN" : file);
}

}  // namespace

void AddRemoteLimits(Options& app, RemoteLimits& limits) {
  AddNumber(app, "--max-key-gigabytes", limits.max_key_gigabytes, {1e-3, 1e6},
            "refuse a server that asks for more evaluation keys (10^9 bytes)");
  AddNumber(app, "--max-step-seconds", limits.max_step_seconds, {1e-3, 1e7},
            "give up on a token that takes longer");
  AddNumber(app, "--retry-seconds", limits.retry_seconds, {1e-3, 1e6},
            "how long a lost connection or reply is tried anew");
  app.add_option("--ca", limits.tls.authorities,
                 "PEM file of what an https:// server's certificate must lead to (default: the "
                 "system's authorities)");
  app.add_option("--client-certificate", limits.tls.certificate,
                 "PEM file of this client's own certificate, for a server that asks for one");
  app.add_option("--client-key", limits.tls.key, "PEM file of its key");
  app.add_option("--token-file", limits.token_file,
                 "file of the account's token on the server (default: $POLYVEIL_TOKEN)");
  app.add_flag("--plain-http", limits.plain_http,
               "use http:// to other machines too: whoever is on the way sees and changes what is "
               "sent, the token included");
}

Result<serve::RemoteOptions> ToRemoteOptions(const RemoteLimits& limits, bool allow_insecure) {
  serve::RemoteOptions options;
  options.allow_insecure = allow_insecure;
  options.max_key_bytes = static_cast<u64>(limits.max_key_gigabytes * 1e9);
  options.max_step_seconds = limits.max_step_seconds;
  options.retry_seconds = limits.retry_seconds;
  options.cancel = &Interrupted();
  const serve::TlsFiles& files = limits.tls;
  if (!files.authorities.empty() || !files.certificate.empty() || !files.key.empty()) {
    PV_ASSIGN_OR_RETURN(options.access.tls, serve::MakeClientTls(files));
  }
  PV_ASSIGN_OR_RETURN(options.access.token, ReadToken(limits.token_file));
  options.access.plain_http = limits.plain_http;
  return options;
}

}  // namespace polyveil::tools
