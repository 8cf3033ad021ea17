#include "serve/server/model_service.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
#include <tuple>

#include "base/memory_report.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "ckks/seeded.h"
#include "serve/server/key_preparation.h"
#include "serve/server/replies.h"
#include "serve/server/request_fields.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

bool IsNewChunk(KeySet& set, u64 index) {
  const std::lock_guard lock(set.mutex);
  return index >= set.next_chunk;
}

template <typename T>
Status ToStatus(const Result<T>& result) {
  return result.ok() ? Status() : Status(result.error());
}

Error NotHere(const char* what, const std::string& handle) {
  return MakeError(ErrorCode::kNotFound, "{} '{}' {} not here", what, handle.substr(0, 64),
                   what[0] == 'k' ? "are" : "is");
}

}  // namespace

ModelService::ModelService(const ServedModel& served, const ServiceLimits& limits,
                           std::shared_ptr<Accounts> accounts, std::unique_ptr<StateFolder> state,
                           RequestLog log)
    : model_(served.model),
      shared_(SharedModel::Create(model_, limits.weight_bytes)),
      token_bytes_(LargestBody(*model_)),
      info_(served.info),
      client_(served.client),
      lease_seconds_(limits.lease_seconds),
      admission_(std::move(accounts)),
      operations_(std::move(log)),
      public_contexts_(served.decoder, served.embedding, limits.public_bytes),
      sessions_(limits),
      keys_(model_, limits, sessions_),
      queue_(limits.waiting_steps, RunningSteps(*model_, limits)),
      state_(std::move(state)),
      submissions_(state_ && model_->choice()
                       ? std::make_unique<SubmissionStore>(
                             SubmissionParts{model_, *state_, queue_, admission_, draining_,
                                             [this](const auto& latency) {
                                               operations_.Stepped(latency, 1, false);
                                             }},
                             limits)
                       : nullptr),
      keeper_(state_ ? std::make_unique<Keeper>(
                           *state_,
                           KeptParts{shared_, info_.tensors_sha256, admission_, public_contexts_,
                                     sessions_, keys_, queue_, submissions_.get()},
                           limits)
                     : nullptr),
      housekeeper_(HousekeepingPeriod(limits), [this] {
        sessions_.RemoveExpired();
        keys_.RemoveExpired();
        if (submissions_) submissions_->RemoveExpired();
        admission_.Refresh();
      }) {
  program_digest_ = DigestFromHex(model_->digest()).value();
  info_.key_stream_bytes = keys_.stream_bytes();
  info_.chunk_bytes = keys_.chunk_bytes();
  info_.key_storage = ckks::KeyStorageName(limits.key_storage);
}

std::optional<Refusal> ModelService::Admit(const HttpRequest& request) {
  const Segments segments = PathSegments(request.path);
  if (segments.size() == 2 && segments[0] == "health") return {};  // says nothing of anyone
  const auto member = admission_.Find(request.token);
  if (!member) return Admission::Unknown();
  const bool named = segments.size() >= 3 || request.method != "POST";
  if (draining_ && request.method == "POST")
    return Refusal{
        503, MakeError(ErrorCode::kUnavailable, "the server is ending"), {{"Retry-After", "5"}}};
  if (segments.size() < 2 || !named) return {};
  if (const Status status = CheckRestored(request.handle); !status.ok())
    return Refusal{503, status.error(), {{"Retry-After", "1"}}};
  Status found;
  if (segments[1] == "keys") found = ToStatus(FindKeys(*member, request.handle));
  if (segments[1] == "sessions") found = ToStatus(FindSession(*member, request.handle));
  if (segments[1] == "jobs" && submissions_)
    found = ToStatus(submissions_->Find(request.handle, *member->usage));
  if (found.ok()) return {};
  return Refusal{HttpStatusOf(found.error().code), found.error()};
}

Status ModelService::CheckRestored(const std::string& handle) const {
  if (!keeper_ || !keeper_->Restoring(handle)) return {};
  return MakeError(ErrorCode::kUnavailable, "'{}' is being read from the disk", handle);
}

Member ModelService::MemberOf(const Exchange& exchange) {
  // The accounts may have changed since it was admitted.
  auto member = admission_.Find(exchange.request().token);
  if (member) return *std::move(member);
  auto account = std::make_shared<Account>();
  account->quota = {0, 0, 0, 0, 0};
  return {std::move(account), std::make_shared<Usage>("")};
}

Result<std::shared_ptr<KeySet>> ModelService::FindKeys(const Member& member,
                                                       const std::string& handle) const {
  PV_ASSIGN_OR_RETURN(auto set, keys_.Find(handle));
  if (set->owner == member.usage) return set;
  return NotHere("keys", handle);
}

Result<std::shared_ptr<Session>> ModelService::FindSession(const Member& member,
                                                           const std::string& handle) {
  PV_ASSIGN_OR_RETURN(auto session, sessions_.Find(handle));
  if (session->keys->owner == member.usage) return session;
  return NotHere("session", handle);
}

u64 ModelService::BodyLimit(std::string_view method, std::string_view path) const {
  const Segments segments = PathSegments(path);
  if (segments.size() == 4 && segments[1] == "keys" && method == "PUT") return keys_.chunk_bytes();
  if (segments.size() >= 3 && segments[1] == "sessions" && method == "POST") return token_bytes_;
  if (segments.size() == 4 && segments[1] == "jobs" && method == "PUT") return token_bytes_;
  if (segments.size() == 2 && (segments[1] == "sessions" || segments[1] == "jobs") &&
      method == "POST")
    return BeginningJsonBytes(info_);
  return method == "POST" ? kMaxRequestJsonBytes : 0;
}

void ModelService::Handle(Exchange& exchange) {
  const Status status = Route(exchange);
  if (!status.ok()) ReplyError(exchange, status.error());
}

Status ModelService::Route(Exchange& exchange) {
  const Segments path = PathSegments(exchange.request().path);
  if (IsOperation(path)) return ShowOperation(exchange, path);
  if (path.size() < 2 || path[0] != "v1") return NoRoute(exchange);
  if (path[1] == "keys") return RouteKeys(exchange, path);
  if (path[1] == "sessions") return RouteSessions(exchange, path);
  if (path[1] == "jobs") return RouteJobs(exchange, path);
  if (path.size() > 2 && path[1] == "model" && path[2] == "client" &&
      exchange.request().method == "GET") {
    return client_.Handle(exchange, {path.begin() + 3, path.end()});
  }
  if (path.size() == 2 && exchange.request().method == "GET") {
    if (path[1] == "model") return ShowModel(exchange);
    if (path[1] == "status") return ShowStatus(exchange);
  }
  return NoRoute(exchange);
}

void ModelService::Drain(double seconds) {
  draining_ = true;
  for (const Timer timer; timer.Seconds() < seconds;) {
    if (queue_.running() + queue_.waiting() == 0) break;
    std::this_thread::sleep_for(std::chrono::duration<double>(kPollSeconds));
  }
}

Status ModelService::RouteKeys(Exchange& exchange, const Segments& path) {
  const auto& [method, handle] = std::tie(exchange.request().method, exchange.request().handle);
  if (path.size() == 2 && method == "POST") return BeginKeys(exchange);
  if (path.size() == 2 && method == "GET") return ShowKeys(exchange, handle);
  if (path.size() == 2 && method == "DELETE") return RemoveKeys(exchange, handle);
  if (path.size() == 4 && path[2] == "chunks" && method == "PUT")
    return AddChunk(exchange, handle, path[3]);
  if (path.size() == 3 && path[2] == "complete" && method == "POST")
    return CompleteKeys(exchange, handle);
  return NoRoute(exchange);
}

Status ModelService::RouteSessions(Exchange& exchange, const Segments& path) {
  const auto& [method, handle] = std::tie(exchange.request().method, exchange.request().handle);
  if (path.size() == 2 && method == "POST") return CreateSession(exchange);
  if (path.size() == 2 && method == "DELETE") return RemoveSession(exchange, handle);
  if (path.size() == 3 && path[2] == "latency" && method == "GET")
    return ShowLatency(exchange, handle);
  if (path.size() == 3 && path[2] == "step" && method == "POST") return Step(exchange, handle);
  if (path.size() == 4 && path[2] == "prompt" && method == "POST")
    return ReadPrompt(exchange, handle, path[3]);
  return NoRoute(exchange);
}

Status ModelService::BeginKeys(Exchange& exchange) {
  PV_ASSIGN_OR_RETURN(const json asked, RequestJson(exchange));
  UploadRequest request;
  PV_ASSIGN_OR_RETURN(const std::string key_text, wire::JsonString(asked, "key_id", 64));
  PV_ASSIGN_OR_RETURN(request.key_id, DigestFromHex(key_text));
  PV_ASSIGN_OR_RETURN(const auto total, wire::JsonInteger(asked, "total_bytes", 0, INT64_MAX));
  request.total_bytes = static_cast<u64>(total);
  PV_ASSIGN_OR_RETURN(request.request_id, RequestId(asked));
  request.member = MemberOf(exchange);
  PV_ASSIGN_OR_RETURN(const auto set, keys_.Begin(request, exchange.connection()));
  if (!set)
    return ReplyRefusal(exchange,
                        Admission::Full(request.member, "key sets", request.member.usage->key_sets,
                                        *request.member.account->quota.key_sets, false));
  if (keeper_) PV_RETURN_IF_ERROR(keeper_->Begun(*set));
  json body = {{"id", set->handle}, {"chunk_bytes", keys_.chunk_bytes()}};
  {
    const std::lock_guard lock(set->mutex);
    body["next_chunk"] = set->next_chunk;
  }
  return ReplyJson(exchange, 201, body);
}

Status ModelService::AddChunk(Exchange& exchange, const std::string& handle,
                              const std::string& index) {
  PV_ASSIGN_OR_RETURN(const u64 number, ParseIndex("chunk number", index));
  const Member member = MemberOf(exchange);
  PV_ASSIGN_OR_RETURN(const auto set, FindKeys(member, handle));
  const HttpRequest& request = exchange.request();
  const auto pin = Pin(set);
  const u64 more = IsNewChunk(*set, number) ? request.body.size() : 0;
  const std::optional<u64> most = member.account->quota.key_bytes;
  auto received = Charge::Try(member.usage, &Usage::key_bytes, more, most);
  while (!received && keys_.YieldOf(*member.usage))
    received = Charge::Try(member.usage, &Usage::key_bytes, more, most);
  if (!received)
    return ReplyRefusal(exchange, Admission::Full(member, "bytes of keys, and a chunk more,",
                                                  member.usage->key_bytes, *most, false));
  const auto store = [&] { return keeper_->Uploaded(*set, number, request.body); };
  Status added =
      keys_.AddChunk(*set, number, request.body, request.checksum, exchange.connection(),
                     std::move(*received), keeper_ ? std::function<Status()>(store) : nullptr);
  if (!added.ok()) {
    const std::lock_guard lock(set->mutex);
    // Its place is free again.
    if (set->reader && set->reader->failed()) (void)keys_.Remove(handle).ok();
    return added;
  }
  return ReplyJson(exchange, 200, {{"next_chunk", number + 1}});
}

Status ModelService::ShowKeys(Exchange& exchange, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const auto set, FindKeys(MemberOf(exchange), handle));
  json body = {{"id", set->handle}, {"key_id", ToHex(set->key_id)}};
  {
    const std::lock_guard lock(set->mutex);
    body["next_chunk"] = set->next_chunk;
    body["received_bytes"] = set->reader ? set->reader->received() : 0;
    body["total_bytes"] = keys_.stream_bytes();
    body["ready"] = set->engine != nullptr;
  }
  return ReplyJson(exchange, 200, body);
}

Status ModelService::CompleteKeys(Exchange& exchange, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const auto set, FindKeys(MemberOf(exchange), handle));
  PV_ASSIGN_OR_RETURN(const auto job, PrepareKeys(shared_, set, queue_));
  while (!job->WaitFor(kPollSeconds)) {
    if (set->removed) job->Cancel();
    // The preparation goes on: the client may ask again.
    if (exchange.Disconnected()) return MakeError(ErrorCode::kUnavailable, "the client has left");
  }
  set->last_use.Touch(exchange.connection());
  if (!job->status().ok()) {
    (void)keys_.Remove(handle).ok();
    return job->status();
  }
  return ReplyJson(exchange, 200, {{"id", handle}, {"ready", true}});
}

Status ModelService::RemoveKeys(Exchange& exchange, const std::string& handle) {
  PV_RETURN_IF_ERROR(FindKeys(MemberOf(exchange), handle));
  PV_RETURN_IF_ERROR(keys_.Remove(handle));
  return ReplyJson(exchange, 200, {{"id", handle}, {"removed", true}});
}

Status ModelService::RemoveSession(Exchange& exchange, const std::string& handle) {
  PV_RETURN_IF_ERROR(FindSession(MemberOf(exchange), handle));
  PV_RETURN_IF_ERROR(sessions_.Remove(handle));
  return ReplyJson(exchange, 200, {{"id", handle}, {"removed", true}});
}

Status ModelService::ShowLatency(Exchange& exchange, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const auto session, FindSession(MemberOf(exchange), handle));
  json body;
  {
    const std::lock_guard lock(session->mutex);
    body = {{"position", session->position.load()}, {"latency", LatencyToJson(session->latency)}};
  }
  body["peak_rss_bytes"] = PeakRssBytes();
  return ReplyJson(exchange, 200, body);
}

wire::MessageBounds ModelService::BoundsOf(const Session& session, u32 position, int level) const {
  wire::MessageBounds bounds;
  bounds.binding = {model_->params()->digest(), program_digest_, session.keys->key_id};
  bounds.position = position;
  bounds.level = level;
  bounds.scale = model_->params()->scale(level);
  return bounds;
}

Status ModelService::TakeBackIfSentAgain(Session& session, wire::ByteView body,
                                         wire::MessageBounds& bounds) {
  if (static_cast<int>(bounds.position) == session.first_position) return {};
  wire::MessageBounds before = bounds;
  before.position -= 1;
  if (!wire::ParseToken(*model_->params(), body, before).ok()) return {};
  if (!session.decoder.UndoStep()) {
    return MakeError(
        ErrorCode::kMismatch,
        "token ciphertext: position = {}, expected {}; that step was taken back before",
        before.position, bounds.position);
  }
  bounds = before;
  return {};
}

Status ModelService::Step(Exchange& exchange, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const auto session, FindSession(MemberOf(exchange), handle));
  PV_ASSIGN_OR_RETURN(SessionLease lease, SessionLease::Acquire(session, exchange, lease_seconds_));
  runtime::DecoderSession& decoder = session->decoder;
  wire::MessageBounds bounds =
      BoundsOf(*session, static_cast<u32>(decoder.position()), model_->input_level());
  PV_RETURN_IF_ERROR(TakeBackIfSentAgain(*session, exchange.request().body, bounds));
  if (const int context = model_->ContextBehind(session->first_position);
      decoder.position() >= context) {
    return MakeError(ErrorCode::kOutOfRange, "session '{}': position {} fills the context of {}",
                     handle, decoder.position(), context);
  }
  return Compute(exchange, std::move(lease), bounds, 1,
                 [&](std::span<const ckks::Ciphertext> token,
                     const runtime::StepOptions& options) -> Result<std::vector<ckks::Ciphertext>> {
                   PV_ASSIGN_OR_RETURN(ckks::Ciphertext result,
                                       decoder.Step(token.front(), options));
                   return std::vector{std::move(result)};
                 });
}

namespace {

// "128", or "32,17,40": of several independent texts.
Result<std::vector<int>> ParseLengths(std::string_view text, u64 most) {
  std::vector<int> lengths;
  u64 sum = 0;
  while (true) {
    const size_t end = std::min(text.find(','), text.size());
    PV_ASSIGN_OR_RETURN(const u64 tokens,
                        ParseIndex("number of tokens", std::string(text.substr(0, end))));
    sum += std::min(tokens, most + 1);
    if (tokens < 1 || sum > most)
      return MakeError(ErrorCode::kOutOfRange,
                       "a prompt of {} tokens at once, this server takes {}",
                       tokens < 1 ? tokens : sum, most);
    lengths.push_back(static_cast<int>(tokens));
    if (end == text.size()) return lengths;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Status ModelService::ReadPrompt(Exchange& exchange, const std::string& handle,
                                const std::string& text) {
  PV_ASSIGN_OR_RETURN(const auto session, FindSession(MemberOf(exchange), handle));
  const auto& programs = model_->prompts();
  const u64 most = programs.empty() ? 0 : static_cast<u64>(programs.back()->prompt_tokens());
  PV_ASSIGN_OR_RETURN(std::vector<int> texts, ParseLengths(text, most));
  if (texts.size() > 1 && model_->keeps_caches())
    return MakeError(ErrorCode::kInvalidArgument, "{} texts at once: this server has no encoder",
                     texts.size());
  const int count = std::accumulate(texts.begin(), texts.end(), 0);
  if (texts.size() == 1) texts.clear();
  const size_t program = model_->PromptFor(count);
  PV_ASSIGN_OR_RETURN(SessionLease lease, SessionLease::Acquire(session, exchange, lease_seconds_));
  runtime::DecoderSession& decoder = session->decoder;
  const wire::MessageBounds bounds = BoundsOf(*session, kPromptPosition | static_cast<u32>(count),
                                              programs[program]->input_level());
  const int ciphertexts = programs[program]->token_layout().ciphertexts();
  // Sent again: its answer was lost.
  if (decoder.position() == count && decoder.undo_position() == 0 &&
      ParseInputs(exchange.request().body, bounds, ciphertexts).ok())
    decoder.UndoStep();
  std::shared_ptr<const runtime::Engine> engine;
  {
    const std::lock_guard lock(session->keys->mutex);
    engine = session->keys->prompts[program];
  }
  return Compute(
      exchange, std::move(lease), bounds, ciphertexts,
      [&](std::span<const ckks::Ciphertext> packed, const runtime::StepOptions& options) {
        return decoder.Read(*engine, packed, count, options, texts);
      });
}

Result<std::vector<ckks::SeededCiphertext>> ModelService::ParseInputs(wire::ByteView body,
                                                                      wire::MessageBounds bounds,
                                                                      int ciphertexts) const {
  const ckks::Parameters& params = *model_->params();
  const auto count = static_cast<size_t>(ciphertexts);
  if (const size_t size = count * wire::TokenBytes(params, bounds.level);
      count > 1 && body.size() != size)
    return MakeError(ErrorCode::kCorrupt, "prompt: {} bytes in place of {}, {} token ciphertexts",
                     body.size(), size, count);
  std::vector<ckks::SeededCiphertext> inputs;
  for (size_t i = 0, each = body.size() / count; i < count; ++i) {
    PV_ASSIGN_OR_RETURN(ckks::SeededCiphertext input,
                        wire::ParseToken(params, body.subspan(i * each, each), bounds));
    inputs.push_back(std::move(input));
    bounds.position += kPromptCiphertext;
  }
  return inputs;
}

Status ModelService::Compute(Exchange& exchange, SessionLease lease,
                             const wire::MessageBounds& bounds, int ciphertexts,
                             const Computation& step) {
  const Member member = MemberOf(exchange);
  if (const auto refusal = Admission::CheckSeconds(member)) return ReplyRefusal(exchange, *refusal);
  const auto place = Charge::Try(member.usage, &Usage::steps, 1, member.account->quota.steps);
  if (!place)
    return ReplyRefusal(exchange, Admission::Full(member, "steps run or wait", member.usage->steps,
                                                  *member.account->quota.steps, true));
  const ckks::Parameters& params = *model_->params();
  PV_ASSIGN_OR_RETURN(const auto seeded, ParseInputs(exchange.request().body, bounds, ciphertexts));
  std::vector<ckks::Ciphertext> inputs;
  for (const ckks::SeededCiphertext& each : seeded) {
    PV_ASSIGN_OR_RETURN(ckks::Ciphertext input, ckks::Expand(params, each));
    inputs.push_back(std::move(input));
  }
  bool streaming = false;
  const auto outcome = RunStep(
      exchange, queue_, lease.session(),
      [&](const runtime::StepOptions& options) {
        const Timer timer;
        auto result = step(inputs, options);
        member.usage->AddSeconds(timer.Seconds());
        return result;
      },
      &streaming);
  // A full disk is no reason to refuse a token: the text then ends with this process.
  if (keeper_ && outcome.ok()) (void)keeper_->Stepped(lease.session()).ok();
  if (outcome.ok()) {
    const bool prompt = bounds.position & kPromptPosition;
    operations_.Stepped(outcome->latency,
                        prompt ? static_cast<int>(PromptTokensOf(bounds.position)) : 1, prompt);
  }
  lease.Return();
  if (!streaming) return outcome.ok() ? Status() : Status(outcome.error());
  // A client that is gone has no use for an error.
  (void)SendOutcome(exchange, bounds, outcome).ok();
  return {};
}

Status ModelService::SendOutcome(Exchange& exchange, const wire::MessageBounds& bounds,
                                 const Result<StepOutcome>& outcome) const {
  if (outcome.ok()) {
    const json timing = {{"latency", LatencyToJson(outcome->latency)},
                         {"peak_rss_bytes", PeakRssBytes()}};
    PV_RETURN_IF_ERROR(exchange.Send(FormatFrame(FrameType::kTiming, timing.dump())));
    u32 position = bounds.position;
    for (const ckks::Ciphertext& result : outcome->results) {
      PV_RETURN_IF_ERROR(exchange.Send(
          FormatFrame(FrameType::kResult,
                      wire::FormatResult(*model_->params(), bounds.binding, position, result))));
      position += kPromptCiphertext;
    }
  } else {
    PV_RETURN_IF_ERROR(exchange.Send(FormatFrame(FrameType::kError, ErrorToJson(outcome.error()))));
  }
  return exchange.EndStream();
}

}  // namespace polyveil::serve
