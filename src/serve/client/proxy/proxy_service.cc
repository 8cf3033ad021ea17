#include "serve/client/proxy/proxy_service.h"

#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/system.h"
#include "serve/client/proxy/openai_request.h"
#include "serve/client/proxy/page.h"
#include "serve/client/proxy/proxy_replies.h"
#include "serve/server/replies.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

constexpr char kEventStream[] = "text/event-stream";
constexpr char kMetricsType[] = "text/plain; version=0.0.4";

wire::ByteView Bytes(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

// What the computing thread tells the connection's.
class TextMailbox {
 public:
  void Add(std::string_view text) {
    const std::lock_guard lock(mutex_);
    text_ += text;
  }
  void Set(const RemoteProgress& progress) {
    const std::lock_guard lock(mutex_);
    progress_ = progress;
  }
  std::string Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(text_, {});
  }
  RemoteProgress progress() const {
    const std::lock_guard lock(mutex_);
    return progress_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
  RemoteProgress progress_{0, "waiting", 0};
};

struct ProxyService::Run {
  PreparedText text;
  ApiAnswer answer;
  TextMailbox mailbox;
  TextOutcome outcome;
  std::shared_ptr<Job> job;
  Timer silence;  // since something was sent
};

ProxyService::ProxyService(TextEngine& engine, const ProxyLimits& limits, Metrics& metrics)
    : ProxyService(engine, &engine, nullptr, limits, metrics) {}

ProxyService::ProxyService(EmbeddingEngine& engine, const ProxyLimits& limits, Metrics& metrics)
    : ProxyService(engine, nullptr, &engine, limits, metrics) {}

ProxyService::ProxyService(Engine& engine, TextEngine* texts, EmbeddingEngine* embeddings,
                           const ProxyLimits& limits, Metrics& metrics)
    : engine_(engine),
      texts_(texts),
      embeddings_(embeddings),
      limits_(limits),
      metrics_(metrics),
      started_(std::time(nullptr)),
      queue_(limits.waiting, 1) {
  metrics_.Describe("polyveil_proxy_requests_total", "Requests by path and status.");
  metrics_.Describe("polyveil_proxy_tokens_total", "Tokens of prompts and of answers.");
  metrics_.Describe("polyveil_proxy_text_seconds", "From a request for a text to its end.");
  metrics_.Describe("polyveil_proxy_texts", "Texts that run and wait.");
}

u64 ProxyService::BodyLimit(std::string_view method, std::string_view /*path*/) const {
  return method == "POST" ? kMaxApiBodyBytes : 0;
}

std::string ProxyService::ErrorBody(int status, const Error& error) const {
  ApiError api = ApiError::OfRequest(error);
  api.status = status;
  api.type = status >= 500 ? "server_error" : "invalid_request_error";
  api.code = ErrorCodeName(error.code);
  return Dump(api.Json());
}

void ProxyService::Handle(Exchange& exchange) {
  const std::string& path = exchange.request().path;
  const int status = Route(exchange);
  // Labels are kept for good: paths that nobody serves are one.
  const std::string label = status == 404 ? "other" : path.substr(0, 64);
  metrics_.Count("polyveil_proxy_requests_total",
                 fmt::format(R"(path="{}",code="{}")", label, status));
}

int ProxyService::Route(Exchange& exchange) {
  const std::string& method = exchange.request().method;
  const std::vector<std::string> path = PathSegments(exchange.request().path);
  const auto is = [&](const char* verb, std::initializer_list<const char*> segments) {
    return method == verb && std::ranges::equal(path, segments);
  };
  if (is("POST", {"v1", "chat", "completions"})) return RunText(exchange, true);
  if (is("POST", {"v1", "completions"})) return RunText(exchange, false);
  if (is("GET", {"v1", "models"})) return ShowModels(exchange, "");
  if (is("GET", {"v1", "models", path.size() > 2 ? path[2].c_str() : ""}))
    return ShowModels(exchange, path[2]);
  if (is("POST", {"v1", "embeddings"})) return RunEmbeddings(exchange);
  if (is("GET", {"health"}))
    return Answer(exchange, 200, Dump({{"status", "ok"}, {"model", engine_.model()}}));
  if (is("GET", {"metrics"})) {
    metrics_.Set("polyveil_proxy_texts", R"(state="running")",
                 static_cast<double>(queue_.running()));
    metrics_.Set("polyveil_proxy_texts", R"(state="waiting")",
                 static_cast<double>(queue_.waiting()));
    return Answer(exchange, 200, metrics_.Text(), kMetricsType);
  }
  if (is("GET", {"status"}))
    return Answer(exchange, 200, Dump(board_.Json(engine_.model(), engine_.facts())));
  if (method == "GET" && FindPageFile(exchange.request().path)) return ShowPage(exchange);
  return Refuse(exchange, {404, "invalid_request_error", "unknown_url", "",
                           fmt::format("{} {} is not served", method,
                                       exchange.request().path.substr(0, 128))});
}

// The page asks nobody but this proxy for anything.
int ProxyService::ShowPage(Exchange& exchange) {
  const PageFile file = *FindPageFile(exchange.request().path);
  HttpReply reply;
  reply.content_type = file.content_type;
  reply.text = std::string(file.text);
  reply.fields = {{"Content-Security-Policy",
                   "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                   "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                  {"X-Content-Type-Options", "nosniff"},
                  {"Referrer-Policy", "no-referrer"}};
  (void)exchange.Reply(reply).ok();  // who is gone has no use for an error
  return reply.status;
}

int ProxyService::ShowModels(Exchange& exchange, const std::string& name) {
  const json model = {{"id", engine_.model()},
                      {"object", "model"},
                      {"created", started_},
                      {"owned_by", "polyveil"}};
  if (name.empty())
    return Answer(exchange, 200, Dump({{"object", "list"}, {"data", json::array({model})}}));
  if (name == engine_.model()) return Answer(exchange, 200, Dump(model));
  return RefuseModel(exchange);
}

int ProxyService::RefuseModel(Exchange& exchange) {
  return Refuse(exchange, {404, "invalid_request_error", "model_not_found", "model",
                           "model: another one than '" + engine_.model() + "'"});
}

int ProxyService::RunText(Exchange& exchange, bool chat) {
  if (!texts_)
    return Refuse(exchange, {400, "invalid_request_error", "no_decoder", "model",
                             "model: '" + engine_.model() +
                                 "' is an encoder: it embeds texts (/v1/embeddings), writes none"});
  auto request = ParseTextRequest(BodyOf(exchange), chat);
  if (!request.ok()) return Refuse(exchange, ApiError::OfRequest(request.error()));
  if (request->model != engine_.model()) return RefuseModel(exchange);
  auto prepared = texts_->Prepare(std::move(*request));
  if (!prepared.ok()) return Refuse(exchange, ApiError::OfRequest(prepared.error()));
  ApiAnswer answer(prepared->request, engine_.model(), texts_->fingerprint());
  Run run{std::move(*prepared), std::move(answer), {}, {}, {}, {}};
  const TextEvents events{{[&](const RemoteProgress& progress) {
                             run.mailbox.Set(progress);
                             board_.Set(progress);
                           },
                           [&](const TokenCost& cost) { board_.Add(cost); }},
                          [&](std::string_view text) { run.mailbox.Add(text); }};
  if (run.text.request.echo) run.mailbox.Add(run.text.request.prompt);
  const auto job = queue_.Submit(nullptr, [&](const std::atomic<bool>& cancel) -> Status {
    board_.Begin();
    auto outcome = texts_->Run(run.text, cancel, events);
    board_.End();
    if (!outcome.ok()) return outcome.error();
    run.outcome = *outcome;
    return {};
  });
  if (!job.ok()) return Refuse(exchange, ApiError::OfRequest(job.error()));
  run.job = *job;
  const Timer timer;
  int status = 0;
  {
    const JobGuard guard{**job};
    status = run.text.request.stream ? AnswerStream(exchange, run) : AnswerWhole(exchange, run);
  }
  metrics_.Observe("polyveil_proxy_text_seconds", "", timer.Seconds());
  metrics_.Count("polyveil_proxy_tokens_total", R"(kind="prompt")", run.outcome.prompt_tokens);
  metrics_.Count("polyveil_proxy_tokens_total", R"(kind="reused")", run.outcome.reused_tokens);
  metrics_.Count("polyveil_proxy_tokens_total", R"(kind="answer")", run.outcome.new_tokens);
  return status;
}

int ProxyService::AnswerWhole(Exchange& exchange, Run& run) {
  while (!run.job->WaitFor(kPollSeconds))
    if (exchange.Disconnected()) run.job->Cancel();
  if (!run.job->status().ok()) return Refuse(exchange, ApiError::OfRun(run.job->status().error()));
  return Answer(exchange, 200, run.answer.Whole(run.mailbox.Take(), run.outcome));
}

// Text that has come, or that something is still going on.
Status ProxyService::SendNews(Exchange& exchange, Run& run) {
  std::string news;
  const std::string text = run.mailbox.Take();
  if (!text.empty()) {
    news = run.answer.Piece(text);
  } else if (run.silence.Seconds() > limits_.keep_alive_seconds) {
    const RemoteProgress progress = run.mailbox.progress();
    news =
        SseComment(fmt::format("{:.0f}% of a step: {}", 100 * progress.done, progress.operation));
  }
  if (news.empty()) return {};
  run.silence.Reset();
  return exchange.Send(Bytes(news));
}

int ProxyService::AnswerStream(Exchange& exchange, Run& run) {
  Status client = exchange.BeginStream(kEventStream);
  if (client.ok()) client = exchange.Send(Bytes(run.answer.Begin()));
  while (!run.job->WaitFor(kPollSeconds)) {
    if (client.ok()) client = SendNews(exchange, run);
    if (!client.ok() || exchange.Disconnected()) run.job->Cancel();
  }
  if (client.ok()) client = SendNews(exchange, run);
  const Status& status = run.job->status();
  const std::string end =
      status.ok() ? run.answer.End(run.outcome) : SseEvent(ApiError::OfRun(status.error()).Json());
  if (client.ok()) client = exchange.Send(Bytes(end));
  if (client.ok()) client = exchange.EndStream();
  return status.ok() ? 200 : ApiError::OfRun(status.error()).status;
}

}  // namespace polyveil::serve
