#include "polyveil/model_session.h"

#include <algorithm>
#include <cstdio>

#include "base/command_line.h"
#include "base/printable.h"
#include "base/system.h"
#include "polyveil/public_part.h"

namespace polyveil::tools {

void AddSessionOptions(Options& app, SessionOptions& o) {
  app.add_option(
      "--model", o.model,
      "a model's folder or *.gguf file (default: the embedded one, or with --server what "
      "that serves)");
  app.add_option(
      "--server", o.server,
      "https://host:port, http:// on this machine (default: a server of its own, on loopback)");
  app.add_option("--keys", o.keys, "a secret key of `keygen` (default: a fresh one, never stored)");
  app.add_option("--cache", o.cache,
                 "folder for what servers send of their models (default: polyveil/models in "
                 "$XDG_CACHE_HOME or ~/.cache)");
  AddNumber(app, "--max-model-gigabytes", o.max_model_gigabytes, {1e-9, 1e6},
            "refuse a server whose model's client half is larger (10^9 bytes)");
  AddProgramOptions(app, " of the own server", o.program);
  app.add_option("--key-storage", o.key_storage,
                 "how the own server keeps keys: auto, expanded, compact")
      ->capture_default_str()
      ->one_of({"auto", "expanded", "compact"});
  AddNumber(app, "--context", o.context, {0, 1 << 16},
            "tokens of a text on the own server; 0: as many as the model was tried on");
  app.add_flag("--passphrase", o.passphrase.ask, "ask for the key's passphrase");
  app.add_option("--passphrase-file", o.passphrase.file,
                 "the passphrase is this file's first line");
  AddThreads(app, o.threads);
  AddRemoteLimits(app, o.limits);
  AddNumber(app, "--largest-error", o.largest_error, {0, 1e9},
            "refuse a model whose certificate predicts a larger error of a logit");
  app.add_flag("--insecure-test", o.insecure, "allow parameters for tests");
}

Result<std::unique_ptr<ModelSession>> ModelSession::Open(const SessionOptions& options) {
  std::unique_ptr<ModelSession> session(new ModelSession(options));
  if (!session->local()) return session;
  PV_ASSIGN_OR_RETURN(session->path_, FindModel(options.model));
  PV_ASSIGN_OR_RETURN(session->half_, LoadClientHalf(session->path_));
  PV_RETURN_IF_ERROR(
      model::CheckPredictedError(session->half_->config().certificate, options.largest_error));
  return session;
}

Status ModelSession::Connect(RunReport& report) {
  if (const Status status = Reach(report); !status.ok()) return Explain(status.error());
  if (!local()) PV_RETURN_IF_ERROR(FetchHalf(options_.text_only));
  if (local() && !child_) PV_RETURN_IF_ERROR(CheckSameModel(*half_, path_, *remote_));
  std::fprintf(stderr, "%s%s\n", InfoToText(report.info).c_str(),
               model::CertificateToText(half_->config().certificate).c_str());
  return {};
}

Status ModelSession::FetchTables() { return half_->text_only() ? FetchHalf(false) : Status(); }

Status ModelSession::FetchHalf(bool text_only) {
  serve::ClientCacheOptions cache;
  cache.text_only = text_only;
  cache.folder = options_.cache;
  cache.max_bytes = static_cast<u64>(options_.max_model_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(half_, FetchWithProgress(*remote_, std::move(cache)));
  return model::CheckPredictedError(half_->config().certificate, options_.largest_error);
}

ModelSession::~ModelSession() {
  text_.reset();
  if (remote_ && !keys_.empty()) (void)remote_->RemoveKeys(keys_).ok();
}

namespace {

// A server that is being started anew is waited for.
Result<std::unique_ptr<serve::RemoteModel>> ConnectWithin(double seconds, const serve::Url& url,
                                                          const serve::RemoteOptions& options) {
  serve::Backoff backoff(seconds, options.cancel);
  for (bool told = false;; told = true) {
    auto remote = serve::RemoteModel::Connect(url, options);
    if (remote.ok() || remote.error().code != ErrorCode::kUnavailable) return remote;
    if (!told)
      std::fprintf(stderr, "%s; trying again for %s ...\n",
                   Printable(remote.error().message).c_str(), FormatSeconds(seconds).c_str());
    if (!backoff.Again(remote.error())) return remote;
  }
}

}  // namespace

Status ModelSession::Reach(RunReport& report) {
  Timer timer;
  serve::Url url;
  if (options_.server.empty()) {
    std::fprintf(stderr, "starting a server of its own on this machine ...\n");
    PV_ASSIGN_OR_RETURN(
        child_,
        ChildServer::Start({path_, options_.program.parameters, options_.key_storage,
                            options_.threads, options_.largest_error, options_.context,
                            options_.program.at_once, options_.program.texts, options_.head},
                           Interrupted()));
    url = child_->url();
  } else {
    PV_ASSIGN_OR_RETURN(url, serve::ParseUrl(options_.server));
  }
  PV_ASSIGN_OR_RETURN(serve::RemoteOptions remote,
                      ToRemoteOptions(options_.limits, options_.insecure));
  if (child_) {
    remote.retry_seconds = 1;  // it is here or it has ended
    remote.access = {};
  }
  PV_ASSIGN_OR_RETURN(remote_, ConnectWithin(remote.retry_seconds, url, remote));
  report.server = url.Text();
  report.server_start_seconds = timer.Seconds();
  report.info = remote_->info();
  return {};
}

Status ModelSession::OpenKey() {
  if (key_) return {};
  PV_ASSIGN_OR_RETURN(ckks::SecretKey key,
                      OpenSecretKey(options_.keys, options_.passphrase, remote_->params()));
  key_.emplace(std::move(key));
  return {};
}

Status ModelSession::SendKeys(RunReport& report) {
  Timer timer;
  PV_RETURN_IF_ERROR(OpenKey());
  const u64 sent = remote_->http().bytes_sent();
  PV_ASSIGN_OR_RETURN(keys_, UploadKeys(*remote_, *key_, options_.keys, Interrupted()));
  report.key_bytes_up = remote_->http().bytes_sent() - sent;
  report.keys_seconds = timer.Seconds();
  std::fprintf(stderr, "keys are on the server: %s in %s\n", Bytes(report.key_bytes_up).c_str(),
               FormatSeconds(report.keys_seconds).c_str());
  return {};
}

Result<std::unique_ptr<serve::EncryptedSession>> ModelSession::NewText(
    std::span<const model::TokenId> public_tokens) {
  if (!options_.keys.empty()) CountSession(options_.keys, *key_);
  return serve::EncryptedSession::Create(*remote_, *key_, keys_, public_tokens);
}

Result<std::unique_ptr<serve::EncryptedSession>> ModelSession::NewTextOfAny(
    std::span<const model::TokenId> public_tokens, const std::function<void()>& on_new_keys) {
  auto session = NewText(public_tokens);
  if (session.ok() || session.error().code != ErrorCode::kNotFound) return session;
  on_new_keys();
  RunReport report;
  PV_RETURN_IF_ERROR(SendKeys(report));
  return NewText(public_tokens);
}

Status ModelSession::Begin(std::span<const model::TokenId> public_tokens, RunReport& report) {
  PV_RETURN_IF_ERROR(SendKeys(report));
  Timer timer;
  PV_ASSIGN_OR_RETURN(text_, NewText(public_tokens));
  report.public_tokens = static_cast<int>(public_tokens.size());
  report.public_seconds = timer.Seconds();
  WarnOfPublicPart(text_->server_session());
  if (!public_tokens.empty())
    std::fprintf(stderr, "the server has taken %d public tokens in %s\n", report.public_tokens,
                 FormatSeconds(report.public_seconds).c_str());
  return {};
}

int ModelSession::context() const {
  const int server = text_ ? text_->server_session().context : remote_->info().context;
  return std::min(half_->context(), server);
}

Error ModelSession::Explain(const Error& error) {
  if (error.code != ErrorCode::kUnavailable || !child_) return error;
  const std::string ended = child_->HowItEnded();
  if (ended.empty()) return error;
  return MakeError(error.code, "{} (polyveil-server {})", error.message, ended);
}

}  // namespace polyveil::tools
