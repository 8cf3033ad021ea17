#include <unistd.h>

#include <cstdio>
#include <memory>

#include "base/buffer.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "polyveil/commands.h"
#include "polyveil/key_files.h"
#include "polyveil/model_files.h"
#include "polyveil/remote_limits.h"
#include "serve/server/served_model.h"
#include "version.h"
#include "wire/client/secret_key_file.h"
#include "wire/key_format.h"

namespace polyveil::tools {
namespace {

struct KeygenArguments {
  std::string out, model, server;
  ProgramOptions program;
  PassphraseSource passphrase;
  RemoteLimits limits;
  bool force = false, insecure = false;
  size_t threads = 0;
};

struct Request {
  ckks::ParametersPtr params;
  ckks::KeyRequest keys;
  double seconds = 0;
};

// What a server asks for, or what the compiler does on this machine.
Result<Request> FindRequest(const KeygenArguments& arguments) {
  if (!arguments.server.empty()) {
    PV_ASSIGN_OR_RETURN(const serve::Url url, serve::ParseUrl(arguments.server));
    PV_ASSIGN_OR_RETURN(const auto options, ToRemoteOptions(arguments.limits, arguments.insecure));
    PV_ASSIGN_OR_RETURN(auto remote, serve::RemoteModel::Connect(url, options));
    return Request{remote->params(), remote->info().keys,
                   remote->info().estimate.key_generation_seconds};
  }
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  serve::ServeOptions options;
  options.programs.prompts = arguments.program.at_once;
  PV_ASSIGN_OR_RETURN(const auto served,
                      serve::LoadServedModel(directory, arguments.program.parameters,
                                             POLYVEIL_COMMIT, {}, options));
  if (served.info.insecure && !arguments.insecure) {
    return MakeError(
        ErrorCode::kSecurity,
        "parameters '{}' are insecure and for tests only (--insecure-test allows them)",
        served.info.parameters);
  }
  return Request{served.model->params(), served.info.keys,
                 served.info.estimate.key_generation_seconds};
}

Status Run(const KeygenArguments& arguments) {
  ProtectProcess();
  SetThreads(arguments.threads);
  const OrderlyEnd end;  // no part of a file stays behind
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  for (const std::string& path : {arguments.out, EvaluationKeyPath(arguments.out)}) {
    if (arguments.force || access(path.c_str(), F_OK) != 0) continue;
    return MakeError(ErrorCode::kInvalidArgument, "{}: it exists (--force replaces it)", path);
  }
  PV_ASSIGN_OR_RETURN(const Request request, FindRequest(arguments));
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*request.params, request.keys));
  std::fprintf(stderr, "parameters  %s\nkeys        %zu, %s, about %s\n",
               request.params->Describe().c_str(), manifest.size(),
               Bytes(wire::StreamBytes(manifest)).c_str(), FormatSeconds(request.seconds).c_str());
  Timer timer;
  const ckks::SecretKey key = ckks::SecretKey::Generate(request.params);
  const auto existing = arguments.force ? wire::Existing::kReplace : wire::Existing::kKeep;
  PV_RETURN_IF_ERROR(WriteKeyFiles(arguments.out, existing, key, request.keys, arguments.passphrase,
                                   request.seconds, Interrupted()));
  std::fprintf(stderr, "key %s... in %s: %s (secret, keep it), %s; peak memory %s\n",
               ToHex(wire::KeyIdOf(key)).substr(0, 16).c_str(),
               FormatSeconds(timer.Seconds()).c_str(), arguments.out.c_str(),
               EvaluationKeyPath(arguments.out).c_str(), Bytes(PeakRssBytes()).c_str());
  return {};
}

}  // namespace

Command DescribeKeygen(Options& app) {
  auto arguments = std::make_shared<KeygenArguments>();
  AddOutputFile(app, "--out", arguments->out,
                "secret key's file; FILE.eval gets the evaluation keys")
      ->required();
  app.add_option("--model", arguments->model, "folder of the model the keys are for");
  app.add_option("--server", arguments->server, "ask this server which keys it needs");
  AddProgramOptions(app, "", arguments->program);
  app.add_flag("--passphrase", arguments->passphrase.ask,
               "encrypt the secret key: ask for a passphrase");
  app.add_option("--passphrase-file", arguments->passphrase.file,
                 "encrypt the secret key with this file's first line");
  app.add_flag("--force", arguments->force,
               "replace existing files, once the new ones are complete");
  AddRemoteLimits(app, arguments->limits);
  app.add_flag("--insecure-test", arguments->insecure, "allow parameters for tests");
  AddThreads(app, arguments->threads);
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
