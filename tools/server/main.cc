// polyveil-server: runs a model on ciphertexts. Holds no secret key and links none.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
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
#include "server/server_log.h"
#include "server/server_options.h"
#include "version.h"

namespace polyveil {
namespace {

void FollowParent(int parent) {
  if (parent == 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) kill(getpid(), SIGTERM);  // it ended before we asked
}

// Of the options: accounts, and certificates into the options themselves. Errors: also of a model
// that is not there.
Result<std::shared_ptr<serve::Accounts>> OpenFiles(ServerArguments& arguments) {
  if (arguments.model.empty()) return MakeError(ErrorCode::kInvalidArgument, "--model is required");
  if (std::error_code error; !std::filesystem::exists(arguments.model, error))
    return MakeError(ErrorCode::kNotFound, "--model {}: no such folder or file", arguments.model);
  std::shared_ptr<serve::Accounts> accounts;
  if (!arguments.accounts.empty()) {
    PV_ASSIGN_OR_RETURN(accounts, serve::Accounts::Load(arguments.accounts));
  }
  const serve::TlsFiles& tls = arguments.tls;
  if (!tls.certificate.empty() || !tls.key.empty() || !tls.authorities.empty()) {
    PV_ASSIGN_OR_RETURN(arguments.http.tls, serve::MakeServerTls(tls));
  }
  return accounts;
}

Status Run(ServerArguments& arguments) {
  PV_RETURN_IF_ERROR(backend::CheckVariable());
  FollowParent(arguments.parent);
  SetThreads(arguments.threads);
  arguments.limits.key_memory_bytes = static_cast<u64>(arguments.key_gigabytes * 1e9);
  arguments.limits.public_bytes = static_cast<u64>(arguments.public_megabytes) * 1'000'000;
  if (arguments.weight_gigabytes >= 0)
    arguments.limits.weight_bytes = static_cast<u64>(arguments.weight_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(arguments.limits.key_storage, ckks::ParseKeyStorage(arguments.keys));
  PV_ASSIGN_OR_RETURN(auto accounts, OpenFiles(arguments));
  if (arguments.check_config) {
    std::printf("the configuration is right\n");
    return {};
  }
  PV_ASSIGN_OR_RETURN(serve::ServedModel served,
                      serve::LoadServedModel(arguments.model, arguments.parameters,
                                             POLYVEIL_VERSION " " POLYVEIL_COMMIT, arguments.limits,
                                             arguments.decoder));
  PV_RETURN_IF_ERROR(serve::CheckMemory(served.info));
  PV_RETURN_IF_ERROR(
      model::CheckPredictedError(served.decoder->certificate, arguments.largest_error));
  std::unique_ptr<serve::StateFolder> state;
  if (!arguments.state.empty()) {
    PV_ASSIGN_OR_RETURN(state, serve::StateFolder::Open(arguments.state));
  }
  // Steps notice, answers go out.
  const OrderlyEnd end(static_cast<unsigned>(arguments.drain_seconds) + 10);
  const ServerLog log(arguments.log_level);
  serve::ModelService service(served, arguments.limits, std::move(accounts), std::move(state),
                              log.requests());
  PV_ASSIGN_OR_RETURN(auto server, serve::HttpServer::Start(arguments.http, service));
  if (arguments.ready_fd < 0) {
    std::fprintf(stderr, "polyveil-server: model '%s' on %s://%s; %s\npolyveil-server: %s\n",
                 served.info.name.c_str(), arguments.http.tls ? "https" : "http",
                 server->authority().c_str(), served.info.security.c_str(),
                 model::CertificateToText(served.decoder->certificate).c_str());
  }
  PV_RETURN_IF_ERROR(TellReady(arguments.ready_fd, server->port()));
  log.Say(fmt::format("ready: model {}, {} {}", served.info.name,
                      arguments.http.tls ? "https" : "http", server->authority()));
  WaitForInterrupt();
  log.Say(fmt::format("ending: waiting {} s at most for steps", arguments.drain_seconds));
  service.Drain(arguments.drain_seconds);
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
  DescribeServerOptions(app, *arguments);
  return [arguments] {
    return arguments->new_account.empty() ? Run(*arguments) : AddAccount(*arguments);
  };
}

}  // namespace
}  // namespace polyveil

int main(int argc, char** argv) {
  return polyveil::RunProgram(
      {"polyveil-server", "polyveil-server: runs a model on its clients' ciphertexts",
       POLYVEIL_VERSION " " POLYVEIL_COMMIT, "POLYVEIL_SERVER_"},
      argc, argv, polyveil::DescribeServer);
}
