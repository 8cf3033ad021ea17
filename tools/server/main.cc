// polyveil-server: runs a model on ciphertexts. Holds no secret key and links none.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "base/thread_pool.h"
#include "serve/server/http_server.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"
#include "version.h"

namespace polyveil {
namespace {

struct ServerArguments {
  std::string model;
  std::string parameters = "decode16";
  serve::HttpOptions http;
  serve::ServiceLimits limits;
  size_t threads = 0;
  double key_gigabytes = 0;
  double largest_error = model::kLargestLogitError;
  std::string keys = "auto";
  int ready_fd = -1;  // the port is written there once the server answers
  int parent = 0;     // end with this process
};

void Describe(CLI::App& app, ServerArguments& arguments) {
  app.add_option("--model", arguments.model, "folder of the model")->required();
  app.add_option("--parameters", arguments.parameters, "parameter set")->capture_default_str();
  app.add_option("--bind", arguments.http.address, "address to listen on")->capture_default_str();
  app.add_option("--port", arguments.http.port, "port, 0 for any free one")
      ->check(CLI::Range(0, 65535));
  app.add_option("--threads", arguments.threads, "threads of a step, 0 for all");
  app.add_option("--max-connections", arguments.http.limits.connections, "connections")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--max-sessions", arguments.limits.sessions, "texts at the same time")
      ->capture_default_str();
  app.add_option("--max-keys", arguments.limits.key_sets, "clients' key sets")
      ->capture_default_str();
  app.add_option("--max-key-gigabytes", arguments.key_gigabytes,
                 "memory of all key sets, 0 for three quarters of the machine's");
  app.add_option("--keys", arguments.keys,
                 "expanded, compact (half the memory, slower), auto (hot keys expanded as far as "
                 "memory allows)")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "expanded", "compact"}));
  app.add_option("--largest-error", arguments.largest_error,
                 "refuse a model whose certificate predicts a larger error of a logit")
      ->capture_default_str();
  app.add_option("--ready-fd", arguments.ready_fd, "write the port to this descriptor when ready");
  app.add_option("--parent", arguments.parent, "process id: end when it does");
}

// SIGINT and SIGTERM wait for sigwait, in every thread.
sigset_t BlockSignals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void FollowParent(int parent) {
  if (parent == 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) raise(SIGTERM);  // it ended before we asked
}

void TellReady(int fd, int port) {
  if (fd < 0) return;
  const std::string line = std::to_string(port) + "\n";
  if (write(fd, line.data(), line.size()) < 0) std::perror("polyveil-server: --ready-fd");
  close(fd);
}

// Before any client sends gigabytes to a machine that would swap or kill us.
Status CheckMemory(const serve::ModelInfo& info) {
  const u64 machine = serve::PhysicalMemoryBytes();
  if (machine == 0 || info.server_bytes() <= machine) return {};
  return MakeError(ErrorCode::kResource, "model '{}' needs {} bytes of memory, the machine has {}",
                   info.name, info.server_bytes(), machine);
}

Status Run(ServerArguments& arguments) {
  const sigset_t signals = BlockSignals();
  FollowParent(arguments.parent);
  SetThreads(arguments.threads);
  arguments.limits.key_memory_bytes = static_cast<u64>(arguments.key_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(arguments.limits.key_storage, ckks::ParseKeyStorage(arguments.keys));
  PV_ASSIGN_OR_RETURN(
      serve::ServedModel served,
      serve::LoadServedModel(arguments.model, arguments.parameters,
                             POLYVEIL_VERSION " " POLYVEIL_COMMIT, arguments.limits));
  PV_RETURN_IF_ERROR(CheckMemory(served.info));
  PV_RETURN_IF_ERROR(model::CheckPredictedError(served.model->bundle().config.certificate,
                                                arguments.largest_error));
  serve::ModelService service(served.model, served.info, arguments.limits);
  PV_ASSIGN_OR_RETURN(auto server, serve::HttpServer::Start(arguments.http, service));
  if (arguments.ready_fd < 0) {
    std::fprintf(stderr, "polyveil-server: model '%s' on http://%s:%d; %s\npolyveil-server: %s\n",
                 served.info.name.c_str(), arguments.http.address.c_str(), server->port(),
                 served.info.security.c_str(),
                 model::CertificateToText(served.model->bundle().config.certificate).c_str());
  }
  TellReady(arguments.ready_fd, server->port());
  int received = 0;
  sigwait(&signals, &received);
  server->Stop();
  return {};
}

}  // namespace
}  // namespace polyveil

int main(int argc, char** argv) {
  CLI::App app("polyveil-server: runs a model on its clients' ciphertexts");
  app.set_version_flag("--version", POLYVEIL_VERSION " " POLYVEIL_COMMIT);
  polyveil::ServerArguments arguments;
  arguments.http.port = 8117;
  polyveil::Describe(app, arguments);
  CLI11_PARSE(app, argc, argv);
  const polyveil::Status status = polyveil::Run(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "polyveil-server: %s: %s\n", polyveil::ErrorCodeName(status.error().code),
               status.error().message.c_str());
  return 1;
}
