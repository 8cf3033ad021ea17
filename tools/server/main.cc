// polyveil-server: runs a model on ciphertexts. Holds no secret key and links none.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "backend/backends.h"
#include "base/command_line.h"
#include "base/interrupt.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "serve/server/accounts.h"
#include "serve/server/http_server.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"
#include "version.h"

namespace polyveil {
namespace {

struct ServerArguments {
  std::string model;
  std::string parameters;  // empty: runtime::DefaultParameters
  serve::ServeOptions decoder;
  serve::HttpOptions http;
  serve::TlsFiles tls;
  std::string accounts, new_account;
  serve::ServiceLimits limits;
  size_t threads = 0;
  double key_gigabytes = 0;
  int public_megabytes = 256;
  double weight_gigabytes = -1;
  double largest_error = model::kLargestLogitError;
  std::string keys = "auto";
  int ready_fd = -1;  // the port is written there once the server answers
  int parent = 0;     // end with this process
};

void Describe(Options& app, ServerArguments& arguments) {
  app.add_option("--model", arguments.model,
                 "folder of a bundle or a converted model, or a *.gguf with forms.json beside it");
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
  AddNumber(app, "--port", arguments.http.port, {0, 65535}, "port, 0 for any free one");
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
}

void FollowParent(int parent) {
  if (parent == 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) kill(getpid(), SIGTERM);  // it ended before we asked
}

// Before any client sends gigabytes to a machine, or into a container, that would swap or kill us.
Status CheckMemory(const serve::ModelInfo& info) {
  const u64 available = MemoryBytes();
  if (available == 0 || info.server_bytes() <= available) return {};
  return MakeError(ErrorCode::kResource,
                   "model '{}' needs {:.2f} GB of memory for one client's keys and a step, this "
                   "process may use {:.2f} GB (the machine's, or its control group's limit)",
                   info.name, static_cast<double>(info.server_bytes()) / 1e9,
                   static_cast<double>(available) / 1e9);
}

Status Run(ServerArguments& arguments) {
  if (arguments.model.empty()) return MakeError(ErrorCode::kInvalidArgument, "--model is required");
  PV_RETURN_IF_ERROR(backend::CheckVariable());
  FollowParent(arguments.parent);
  SetThreads(arguments.threads);
  arguments.limits.key_memory_bytes = static_cast<u64>(arguments.key_gigabytes * 1e9);
  arguments.limits.public_bytes = static_cast<u64>(arguments.public_megabytes) * 1'000'000;
  if (arguments.weight_gigabytes >= 0)
    arguments.limits.weight_bytes = static_cast<u64>(arguments.weight_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(arguments.limits.key_storage, ckks::ParseKeyStorage(arguments.keys));
  std::shared_ptr<serve::Accounts> accounts;
  if (!arguments.accounts.empty()) {
    PV_ASSIGN_OR_RETURN(accounts, serve::Accounts::Load(arguments.accounts));
  }
  const bool tls = !arguments.tls.certificate.empty() || !arguments.tls.key.empty() ||
                   !arguments.tls.authorities.empty();
  if (tls) {
    PV_ASSIGN_OR_RETURN(arguments.http.tls, serve::MakeServerTls(arguments.tls));
  }
  PV_ASSIGN_OR_RETURN(serve::ServedModel served,
                      serve::LoadServedModel(arguments.model, arguments.parameters,
                                             POLYVEIL_VERSION " " POLYVEIL_COMMIT, arguments.limits,
                                             arguments.decoder));
  PV_RETURN_IF_ERROR(CheckMemory(served.info));
  PV_RETURN_IF_ERROR(
      model::CheckPredictedError(served.decoder->certificate, arguments.largest_error));
  const OrderlyEnd end;  // steps notice, answers go out
  serve::ModelService service(served, arguments.limits, std::move(accounts));
  PV_ASSIGN_OR_RETURN(auto server, serve::HttpServer::Start(arguments.http, service));
  if (arguments.ready_fd < 0) {
    std::fprintf(stderr, "polyveil-server: model '%s' on %s://%s; %s\npolyveil-server: %s\n",
                 served.info.name.c_str(), tls ? "https" : "http", server->authority().c_str(),
                 served.info.security.c_str(),
                 model::CertificateToText(served.decoder->certificate).c_str());
  }
  PV_RETURN_IF_ERROR(TellReady(arguments.ready_fd, server->port()));
  WaitForInterrupt();
  server->Stop();
  return {};
}

Status AddAccount(const ServerArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string token,
                      serve::AddAccount(arguments.accounts, arguments.new_account));
  std::printf("%s\n", token.c_str());
  return {};
}

Command DescribeServer(Options& app) {
  auto arguments = std::make_shared<ServerArguments>();
  arguments->http.port = 8117;
  Describe(app, *arguments);
  return [arguments] {
    return arguments->new_account.empty() ? Run(*arguments) : AddAccount(*arguments);
  };
}

}  // namespace
}  // namespace polyveil

int main(int argc, char** argv) {
  return polyveil::RunProgram(
      {"polyveil-server", "polyveil-server: runs a model on its clients' ciphertexts",
       POLYVEIL_VERSION " " POLYVEIL_COMMIT},
      argc, argv, polyveil::DescribeServer);
}
