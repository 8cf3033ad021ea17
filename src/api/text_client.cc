#include <algorithm>
#include <atomic>
#include <utility>

#include "api/context.h"
#include "api/progress.h"
#include "ckks/client/secret_key.h"
#include "polyveil/client.h"
#include "serve/client/client_model.h"
#include "serve/client/encrypted_session.h"
#include "serve/client/text_run.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"

namespace polyveil {
namespace {

Result<serve::RemoteOptions> RemoteOf(const ClientOptions& options) {
  serve::RemoteOptions remote;
  remote.allow_insecure = options.allow_insecure;
  remote.max_key_bytes = static_cast<u64>(options.max_key_gigabytes * 1e9);
  remote.max_step_seconds = options.max_step_seconds;
  remote.retry_seconds = options.retry_seconds;
  remote.access.token = options.token;
  remote.access.plain_http = options.plain_http;
  const serve::TlsFiles files{options.certificate, options.key, options.authorities};
  if (!files.certificate.empty() || !files.key.empty() || !files.authorities.empty()) {
    PV_ASSIGN_OR_RETURN(remote.access.tls, serve::MakeClientTls(files));
  }
  return remote;
}

serve::TextRunOptions RunOf(const GenerateOptions& options) {
  serve::TextRunOptions run;
  run.text.sampling = {options.temperature, options.top_p, options.top_k,
                       options.repetition_penalty, options.seed};
  run.text.stops = options.stops;
  run.fixed_length = options.fixed_length;
  return run;
}

// A run's steps as the caller's events; the caller's wish to stop ends the requests.
class Events final : public serve::TextObserver {
 public:
  Events(const OnToken& on_token, std::atomic<bool>& cancel)
      : on_token_(on_token), cancel_(cancel) {}
  serve::RemoteProgressCallback Asking(const std::string&, double) override { return {}; }
  void Answered() override {}
  void Fed(const serve::TokenReport& token, const model::TextStep& step, int) override {
    if (on_token_ &&
        !on_token_({token.position, !step.next, step.shown, token.seconds, token.server_seconds}))
      cancel_ = true;
  }

 private:
  const OnToken& on_token_;
  std::atomic<bool>& cancel_;
};

}  // namespace

struct TextClient::Impl {
  std::atomic<bool> cancel{false};
  std::unique_ptr<serve::RemoteModel> remote;
  serve::ClientHalfPtr half;
  std::optional<ckks::SecretKey> key;
  std::string keys;  // the server's name for them

  ~Impl() {
    if (remote && !keys.empty()) (void)remote->RemoveKeys(keys).ok();
  }
  int context() const { return std::min(half->context(), remote->info().context); }
};

struct Text::Impl {
  std::shared_ptr<TextClient::Impl> client;  // outlives the session
  std::unique_ptr<serve::EncryptedSession> session;
  std::vector<model::TokenId> tokens;  // what stands before every text among them
  serve::TextReport report;

  // Those that the server has; the last one picked is not among them.
  size_t fed() const {
    const int behind = session->position();
    return behind == 0 ? 0 : static_cast<size_t>(client->half->prefix() + behind);
  }

  int context() const { return std::min(client->context(), session->server_session().context); }
};

Result<TextClient> TextClient::Connect(const ClientOptions& options) {
  auto impl = std::make_shared<Impl>();
  PV_ASSIGN_OR_RETURN(const serve::Url url, serve::ParseUrl(options.server));
  PV_ASSIGN_OR_RETURN(serve::RemoteOptions remote, RemoteOf(options));
  remote.cancel = &impl->cancel;
  PV_ASSIGN_OR_RETURN(impl->remote, serve::RemoteModel::Connect(url, remote));
  serve::ClientCacheOptions cache;
  cache.folder = options.cache_folder;
  cache.max_bytes = static_cast<u64>(options.max_model_gigabytes * 1e9);
  PV_ASSIGN_OR_RETURN(impl->half, serve::FetchClientHalf(*impl->remote, cache));
  return TextClient(std::move(impl));
}

std::string TextClient::model() const { return impl_->remote->info().name; }
int TextClient::context() const { return impl_->context(); }
double TextClient::seconds_per_token() const { return impl_->remote->info().seconds_per_token(); }
std::uint64_t TextClient::key_bytes() const { return impl_->remote->info().key_stream_bytes; }
std::string TextClient::security() const { return impl_->remote->info().security; }

Status TextClient::SendKeys(const OnProgress& on_progress) {
  serve::RemoteModel& remote = *impl_->remote;
  impl_->cancel = false;
  if (!impl_->keys.empty()) return {};
  if (!impl_->key) impl_->key.emplace(ckks::SecretKey::Generate(remote.params()));
  PV_ASSIGN_OR_RETURN(serve::KeyUpload upload,
                      serve::KeyUpload::Begin(remote, wire::KeyIdOf(*impl_->key)));
  Reporter reporter(on_progress);
  const Status sent = wire::WriteKeyStream(
      *impl_->key, remote.info().keys, [&](wire::ByteView bytes) { return upload.Write(bytes); },
      reporter.get());
  auto handle = sent.ok() ? upload.Finish() : Result<std::string>(sent.error());
  if (!handle.ok()) {
    upload.Abandon();
    return handle.error();
  }
  impl_->keys = *std::move(handle);
  return {};
}

Result<Text> TextClient::NewText(std::string_view public_part) {
  PV_RETURN_IF_ERROR(SendKeys());
  const model::ClientHalf& half = *impl_->half;
  auto text = std::make_shared<Text::Impl>();
  text->client = impl_;
  if (!public_part.empty()) text->tokens = half.Encode(public_part);
  const auto known =
      std::span(text->tokens).subspan(public_part.empty() ? 0 : static_cast<size_t>(half.prefix()));
  PV_ASSIGN_OR_RETURN(text->session, serve::EncryptedSession::Create(*impl_->remote, *impl_->key,
                                                                     impl_->keys, known));
  text->report.info = impl_->remote->info();
  return Text(std::move(text));
}

Result<GeneratedText> TextClient::Generate(std::string_view prompt, const GenerateOptions& options,
                                           const OnToken& on_token) {
  PV_ASSIGN_OR_RETURN(Text text, NewText());
  return text.Continue(prompt, options, on_token);
}

Result<GeneratedText> Text::Continue(std::string_view more, const GenerateOptions& options,
                                     const OnToken& on_token) {
  Impl& text = *impl_;
  const model::ClientHalf& half = *text.client->half;
  const serve::TextRunOptions run_options = RunOf(options);
  PV_RETURN_IF_ERROR(model::ValidateTextOptions(run_options.text));
  if (options.tokens < 1)
    return MakeError(ErrorCode::kInvalidArgument, "tokens = {} < 1", options.tokens);
  text.client->cancel = false;
  Events events(on_token, text.client->cancel);
  const serve::TextReport before = text.report;
  serve::TextRun run(half, text.context(), *text.session, run_options, {}, events, text.report);
  const auto fed = static_cast<std::ptrdiff_t>(text.fed());
  if (fed > 0) run.Preload(std::span(text.tokens).first(static_cast<size_t>(fed)));
  std::vector<model::TokenId> added(text.tokens.begin() + fed, text.tokens.end());
  const auto encoded = text.tokens.empty() ? half.Encode(more) : half.EncodePart(more);
  added.insert(added.end(), encoded.begin(), encoded.end());
  const auto end = run.Continue(added, options.tokens, [](std::string_view) {});
  text.tokens = run.loop().text();
  if (!end.ok()) return end.error();
  return GeneratedText{text.report.text.substr(before.text.size()), text.report.end,
                       text.report.generated - before.generated,
                       text.report.bytes_up - before.bytes_up,
                       text.report.bytes_down - before.bytes_down};
}

std::string Text::text() const { return impl_->report.text; }
int Text::tokens() const { return static_cast<int>(impl_->tokens.size()); }

}  // namespace polyveil
