#include "server/server_options.h"

#include <limits>

#include "model/import/decoder_files.h"

namespace polyveil {

namespace {

// Where it listens, for whom.
void DescribeTransport(Options& app, ServerArguments& arguments) {
  app.add_option("--bind", arguments.http.address, "address or name to listen on")
      ->capture_default_str();
  app.add_option("--allow-host", arguments.http.allowed_hosts,
                 "name that clients and pages may know the server by, beside localhost and its "
                 "address (repeatable)");
  app.add_option(
      "--tls-certificate", arguments.tls.certificate,
      "PEM file: the server's certificate and what it leads to; then clients use https://");
  app.add_option("--tls-key", arguments.tls.key, "PEM file of its key");
  app.add_option("--tls-client-ca", arguments.tls.authorities,
                 "PEM file: clients must show a certificate that leads to one of these");
  app.add_flag("--plain-http", arguments.http.plain_http,
               "listen without TLS where other machines reach it: whoever is on the way sees and "
               "changes requests, accounts' tokens included");
  auto* accounts = app.add_option("--accounts", arguments.accounts,
                                  "file of those who may use the server (default: whoever reaches "
                                  "it), read again when it changes");
  app.add_option("--new-account", arguments.new_account,
                 "add this account to the file, or give it another token, print the token and end")
      ->needs(accounts);
  app.add_option("--state", arguments.state,
                 "folder in which keys and sessions outlive this process");
  AddNumber(app, "--drain-seconds", arguments.drain_seconds, {0, 86400},
            "at the end, wait so long for steps that run");
  AddNumber(app, "--port", arguments.http.port, {0, 65535}, "port, 0 for any free one");
}

}  // namespace

void DescribeServerOptions(Options& app, ServerArguments& arguments) {
  app.add_option("--model", arguments.model,
                 "folder of a bundle, a converted model or an adapter, or a *.gguf with forms.json "
                 "beside it");
  app.add_option("--adapter", arguments.decoder.adapter,
                 "folder of an adapter for a released --model, which stays as it is");
  AddNumber(
      app, "--context", arguments.decoder.context, {0, 1 << 16},
      "tokens that a text may have, at most the model's; 0: a bundle's own, or as many as the "
      "polynomials were tried on");
  AddNumber(
      app, "--public-matrix", arguments.decoder.programs.known, {0, 1 << 16},
      "public tokens that encrypted ones meet as a matrix: cheaper than caches for long "
      "contexts (`polyveil plan --public-tokens`), the caches hold the rest; 0: in the caches");
  app.add_option("--parameters", arguments.parameters,
                 "parameter set (default: decode16, with --at-once prompt16)");
  app.add_flag("--at-once", arguments.decoder.programs.prompts,
               "read prompts of many tokens at once too: clients send three times the keys");
  app.add_flag(
      "--choose", arguments.decoder.choose,
      "choose tokens for clients that have left (`polyveil submit`), by choice.json beside "
      "the model; goes with --state");
  app.add_flag("--head", arguments.decoder.head,
               "of an encoder with a classifier: results are its logits (`polyveil classify --head "
               "server`)");
  AddNumber(app, "--texts", arguments.decoder.programs.texts, {1, 1 << 15},
            "texts of a client that are decoded together, a token of each a step: a power of two");
  DescribeTransport(app, arguments);
  AddThreads(app, arguments.threads, "a step");
  AddNumber(app, "--max-connections", arguments.http.limits.connections, {1, 1024}, "connections");
  AddNumber(app, "--max-sessions", arguments.limits.sessions, {1, 100'000},
            "texts at the same time");
  AddNumber(app, "--public-megabytes", arguments.public_megabytes, {0, 1 << 20},
            "memory of public contexts' keys and values (10^6 bytes), which clients share");
  AddNumber(app, "--max-keys", arguments.limits.key_sets, {1, 10'000}, "clients' key sets");
  AddNumber(app, "--max-key-gigabytes", arguments.key_gigabytes, {0, 1e6},
            "memory of all key sets, 0 for three quarters of what this process may use");
  AddNumber(app, "--weight-gigabytes", arguments.weight_gigabytes, {-1, 1e6},
            "memory of the weights' plaintexts, which spare every token making them; -1: half of "
            "what is free beside one client's keys and a step");
  app.add_option("--keys", arguments.keys,
                 "expanded, compact (half the memory, slower), auto (hot keys expanded as far as "
                 "memory allows)")
      ->capture_default_str()
      ->one_of({"auto", "expanded", "compact"});
  AddNumber(app, "--largest-error", arguments.largest_error, {0, 1e9},
            "refuse a model whose certificate predicts a larger error of a logit");
  AddReadyFd(app, arguments.ready_fd);
  AddNumber(app, "--parent", arguments.parent, {0, std::numeric_limits<int>::max()},
            "process id: end when it does; 0: live on");
  app.add_option("--log-level", arguments.log_level,
                 "error, warning, info (a line for each request) or debug")
      ->capture_default_str()
      ->one_of({"error", "warning", "info", "debug"});
  app.add_flag(
      "--check-config", arguments.check_config,
      "say whether options, accounts, certificates and the model's files are right, and end");
}

}  // namespace polyveil
