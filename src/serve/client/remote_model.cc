#include "serve/client/remote_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/csprng.h"
#include "base/printable.h"
#include "wire/json_fields.h"
#include "wire/key_format.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

constexpr u64 kMaxStepExtraBytes = u64{64} << 20;  // progress frames of a long step
constexpr u64 kMaxJsonReplyBytes = u64{1} << 20;   // 65,536 rotation keys are 0.7 MB of it
constexpr size_t kShownBytes = 512;                // of a ciphertext, to its owner
constexpr size_t kMaxProgressBytes = 4096, kMaxTimingBytes = size_t{1} << 18;
// What must not be interrupted, or a name would be lost of something that the server then keeps.
constexpr double kShortSeconds = 10;
constexpr double kCleanUpSeconds = 4;  // for a session and its keys within ten

wire::ByteView View(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string_view Text(const wire::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Status TellProgress(const Frame& frame, const RemoteProgressCallback& on_progress) {
  if (!on_progress) return {};
  PV_ASSIGN_OR_RETURN(const json body,
                      wire::ParseJson(Text(frame.payload), kMaxProgressBytes, "progress frame"));
  RemoteProgress progress;
  PV_ASSIGN_OR_RETURN(progress.done, wire::JsonNumber(body, "done", 0, 1.01));
  PV_ASSIGN_OR_RETURN(progress.operation, PeerText(body, "operation", 128));
  PV_ASSIGN_OR_RETURN(const auto queued, wire::JsonInteger(body, "queued", 0, 1 << 20));
  progress.queued = static_cast<int>(queued);
  on_progress(progress);
  return {};
}

Status ReadTiming(const Frame& frame, RemoteStep& step) {
  PV_ASSIGN_OR_RETURN(const json body,
                      wire::ParseJson(Text(frame.payload), kMaxTimingBytes, "timing frame"));
  PV_ASSIGN_OR_RETURN(const json* latency, wire::JsonField(body, "latency"));
  PV_ASSIGN_OR_RETURN(step.latency, LatencyFromJson(*latency));
  PV_ASSIGN_OR_RETURN(const auto rss, wire::JsonInteger(body, "peak_rss_bytes", 0, INT64_MAX));
  step.server_peak_rss_bytes = static_cast<u64>(rss);
  return {};
}

// What the server made of a session's public tokens: all of them, in front of the first step.
Status ReadPublic(const json& body, size_t sent, RemoteSession& session) {
  PV_ASSIGN_OR_RETURN(const auto position, wire::JsonInteger(body, "position", 0, INT32_MAX));
  PV_ASSIGN_OR_RETURN(const json* known, wire::JsonField(body, "public"));
  PV_ASSIGN_OR_RETURN(const auto tokens, wire::JsonInteger(*known, "tokens", 0, INT32_MAX));
  if (static_cast<size_t>(position) != sent || static_cast<size_t>(tokens) != sent)
    return MakeError(ErrorCode::kMismatch,
                     "a public context of {} tokens: the server has taken {}, position {}", sent,
                     tokens, position);
  PV_ASSIGN_OR_RETURN(const auto outside, wire::JsonInteger(*known, "out_of_range", 0, INT64_MAX));
  session.public_out_of_range = static_cast<u64>(outside);
  PV_ASSIGN_OR_RETURN(session.worst_site, PeerText(*known, "worst_site", 128));
  return {};
}

}  // namespace

Result<std::unique_ptr<RemoteModel>> RemoteModel::Connect(const Url& url,
                                                          const RemoteOptions& options) {
  std::unique_ptr<RemoteModel> remote(new RemoteModel(url, options));
  PV_ASSIGN_OR_RETURN(const json body, remote->Call(remote->NewRequest("GET", "/v1/model")));
  PV_ASSIGN_OR_RETURN(ModelInfo info, InfoFromJson(body));
  PV_RETURN_IF_ERROR(remote->Adopt(std::move(info)));
  return remote;
}

namespace {

Status CheckLevels(const ModelInfo& info, const ckks::Parameters& params) {
  std::vector<std::pair<int, int>> levels = {{info.input_level, info.output_level}};
  for (const PromptInfo& p : info.prompts) levels.emplace_back(p.input_level, p.output_level);
  levels.emplace_back(info.choice.level, 0);
  for (const auto& [input, output] : levels)
    if (std::max(input, output) > params.max_level())
      return MakeError(ErrorCode::kOutOfRange, "the server's levels {} and {} are above {}", input,
                       output, params.max_level());
  if (info.texts > 1 && info.texts > params.slots() / info.d_model)
    return MakeError(ErrorCode::kOutOfRange,
                     "the server's texts = {}: {} slots hold {} of width {}", info.texts,
                     params.slots(), params.slots() / info.d_model, info.d_model);
  // Rows of two halves that hold the longest prompt, one for each feature, or blocks of two tokens
  // in each ciphertext.
  const int rows = info.prompt_row_slots > 0 ? params.slots() / info.prompt_row_slots : 0;
  const int room = info.prompt_blocks ? compile::kMostTokenCiphertexts * 2 * info.prompt_row_slots
                                      : info.prompt_row_slots / 2;
  if (!info.prompts.empty() &&
      (rows < info.d_model || params.slots() % info.prompt_row_slots != 0 ||
       room < info.prompts.back().tokens))
    return MakeError(ErrorCode::kOutOfRange,
                     "the server's prompt_row_slots = {}: no rows for {} features of {} tokens",
                     info.prompt_row_slots, info.d_model, info.prompts.back().tokens);
  return {};
}

}  // namespace

Status RemoteModel::Adopt(ModelInfo info) {
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(info.parameters));
  PV_ASSIGN_OR_RETURN(params_, ckks::Parameters::Create(spec));
  if (info.parameters_digest != ToHex(params_->digest())) {
    return MakeError(ErrorCode::kMismatch,
                     "parameters '{}': the server's digest {}... differs from this program's {}...",
                     info.parameters, info.parameters_digest.substr(0, 16),
                     ToHex(params_->digest()).substr(0, 16));
  }
  DescribeParameters(*params_, info);
  if (info.insecure && !options_.allow_insecure) {
    return MakeError(
        ErrorCode::kSecurity,
        "the server runs parameters '{}', insecure and for tests only (--insecure-test "
        "allows them)",
        info.parameters);
  }
  PV_RETURN_IF_ERROR(CheckLevels(info, *params_));
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*params_, info.keys));
  const u64 stream_bytes = wire::StreamBytes(manifest);
  if (stream_bytes > options_.max_key_bytes) {
    return MakeError(ErrorCode::kResource,
                     "the server asks for {} evaluation keys of {} bytes, above the limit of {} "
                     "(--max-key-gigabytes)",
                     info.keys.count(), stream_bytes, options_.max_key_bytes);
  }
  if (stream_bytes != info.key_stream_bytes) {
    return MakeError(ErrorCode::kMismatch,
                     "evaluation keys: the server expects {} bytes, they have {}",
                     info.key_stream_bytes, stream_bytes);
  }
  PV_ASSIGN_OR_RETURN(program_digest_, DigestFromHex(info.program_digest));
  info_ = std::move(info);
  return {};
}

std::string RemoteModel::NewRequestId() {
  const Seed seed = RandomSeed();
  return ToHex(std::span(seed).first(16));
}

// It becomes a field of a header.
Result<std::string> RemoteModel::NameFrom(const json& reply) {
  PV_ASSIGN_OR_RETURN(std::string name, wire::JsonString(reply, "id", 64));
  const bool plain = std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c); });
  if (plain && !name.empty()) return name;
  return MakeError(ErrorCode::kCorrupt, "field 'id' = '{}' is no name of letters and digits",
                   Printable(name));
}

ClientRequest RemoteModel::NewRequest(const char* method, std::string path,
                                      std::string_view body) const {
  ClientRequest request;
  request.method = method;
  request.path = std::move(path);
  request.body = View(body);
  request.reply_seconds = options_.reply_seconds;
  request.max_reply_bytes = kMaxJsonReplyBytes;
  return request;
}

ClientRequest RemoteModel::ShortRequest(const char* method, std::string path,
                                        std::string_view body) const {
  ClientRequest request = NewRequest(method, std::move(path), body);
  request.total_seconds = kShortSeconds;
  request.ignore_cancel = true;
  return request;
}

Result<json> RemoteModel::Call(const ClientRequest& request) {
  PV_ASSIGN_OR_RETURN(const ClientReply reply, http_.Send(request));
  if (reply.status / 100 != 2) return ErrorFromReply(reply.status, reply.text());
  return wire::ParseJson(reply.text(), kMaxJsonBytes, request.path);
}

Result<json> RemoteModel::CallRepeated(const ClientRequest& request) {
  Backoff backoff = NewBackoff();
  while (true) {
    auto reply = Call(request);
    if (reply.ok() || !backoff.Again(reply.error())) return reply;
  }
}

Result<std::string> RemoteModel::TextRepeated(const ClientRequest& request) {
  const auto once = [&]() -> Result<std::string> {
    PV_ASSIGN_OR_RETURN(const ClientReply reply, http_.Send(request));
    if (reply.status / 100 != 2) return ErrorFromReply(reply.status, reply.text());
    return std::string(reply.text());
  };
  Backoff backoff = NewBackoff();
  while (true) {
    auto reply = once();
    if (reply.ok() || !backoff.Again(reply.error())) return reply;
  }
}

Status RemoteModel::Delete(const char* path, const std::string& handle) {
  ClientRequest request = ShortRequest("DELETE", path);
  request.handle = handle;
  request.total_seconds = kCleanUpSeconds;
  PV_RETURN_IF_ERROR(Call(request));
  return {};
}

Result<std::string> RemoteModel::CreateSession(const std::string& keys) {
  PV_ASSIGN_OR_RETURN(RemoteSession session, CreateSession(keys, {}));
  return std::move(session.id);
}

Result<RemoteSession> RemoteModel::CreateSession(const std::string& keys,
                                                 std::span<const std::int32_t> public_tokens) {
  if (public_tokens.size() > static_cast<size_t>(info_.public_tokens))
    return MakeError(ErrorCode::kOutOfRange,
                     "a public context of {} tokens, the server takes at most {}",
                     public_tokens.size(), info_.public_tokens);
  json asked = {{"keys", keys}, {"request_id", NewRequestId()}};
  if (!public_tokens.empty())
    asked["public"] = {{"tokens", public_tokens},
                       {"digest", ToHex(PublicDigest(info_.tensors_sha256, public_tokens))}};
  const std::string text = asked.dump();
  PV_ASSIGN_OR_RETURN(const json body, CallRepeated(SessionRequest(text, !public_tokens.empty())));
  RemoteSession session;
  PV_ASSIGN_OR_RETURN(session.id, NameFrom(body));
  PV_ASSIGN_OR_RETURN(const auto context, wire::JsonInteger(body, "context", 1, info_.context));
  session.context = static_cast<int>(context);
  if (public_tokens.empty()) return session;
  PV_RETURN_IF_ERROR(ReadPublic(body, public_tokens.size(), session));
  return session;
}

ClientRequest RemoteModel::SessionRequest(const std::string& text, bool computes) const {
  if (!computes) return ShortRequest("POST", "/v1/sessions", text);
  ClientRequest request = NewRequest("POST", "/v1/sessions", text);
  request.reply_seconds = request.total_seconds = options_.prepare_seconds;
  return request;
}

Status RemoteModel::RemoveSession(const std::string& session) {
  return Delete("/v1/sessions", session);
}

Status RemoteModel::RemoveKeys(const std::string& keys) { return Delete("/v1/keys", keys); }

Result<std::vector<MemoryReport::Entry>> RemoteModel::Memory() {
  PV_ASSIGN_OR_RETURN(const json body, CallRepeated(NewRequest("GET", "/v1/status")));
  PV_ASSIGN_OR_RETURN(const json* memory, wire::JsonField(body, "memory"));
  return MemoryFromJson(*memory);
}

Result<runtime::LatencyTable> RemoteModel::Latency(const std::string& session) {
  ClientRequest request = NewRequest("GET", "/v1/sessions/latency");
  request.handle = session;
  PV_ASSIGN_OR_RETURN(const json body, CallRepeated(request));
  PV_ASSIGN_OR_RETURN(const json* latency, wire::JsonField(body, "latency"));
  return LatencyFromJson(*latency);
}

Result<RemoteStep> RemoteModel::Step(const std::string& session, const Digest& key_id, u32 position,
                                     const ckks::SeededCiphertext& token,
                                     const RemoteProgressCallback& on_progress) {
  return Compute({"/v1/sessions/step", session, position, info_.output_level}, key_id, {&token, 1},
                 on_progress);
}

Result<RemoteStep> RemoteModel::ReadPrompt(const std::string& session, const Digest& key_id,
                                           const PromptInfo& program, std::span<const int> texts,
                                           std::span<const ckks::SeededCiphertext> packed,
                                           const RemoteProgressCallback& on_progress) {
  const auto tokens = static_cast<u32>(std::accumulate(texts.begin(), texts.end(), 0));
  return Compute({fmt::format("/v1/sessions/prompt/{}", fmt::join(texts, ",")), session,
                  kPromptPosition | tokens, program.output_level},
                 key_id, packed, on_progress);
}

Result<RemoteStep> RemoteModel::Compute(const StepPlace& place, const Digest& key_id,
                                        std::span<const ckks::SeededCiphertext> inputs,
                                        const RemoteProgressCallback& on_progress) {
  wire::MessageBounds bounds;
  bounds.binding = BindingOf(key_id);
  bounds.position = place.position;
  bounds.level = place.output_level;
  bounds.scale = params_->scale(bounds.level);
  // The same bytes at every attempt: a server that had finished takes the step back and runs it
  // anew, and learns nothing from a second encryption.
  wire::Bytes body;
  u32 position = place.position;
  for (const ckks::SeededCiphertext& input : inputs) {
    const wire::Bytes one = wire::FormatToken(*params_, bounds.binding, position, input);
    body.insert(body.end(), one.begin(), one.end());
    position += kPromptCiphertext;
  }
  sent_ = {body.size(), std::string(Text(body).substr(0, kShownBytes))};
  ClientRequest request = NewRequest("POST", place.path);
  request.handle = place.session;
  request.body = body;
  request.content_type = kBinaryType;
  request.total_seconds = options_.max_step_seconds;
  request.max_reply_bytes =
      inputs.size() * wire::ResultBytes(*params_, bounds.level) + kMaxStepExtraBytes;
  Backoff backoff = NewBackoff();
  while (true) {
    auto step = StepOnce(request, bounds, inputs.size(), on_progress);
    if (step.ok() || !backoff.Again(step.error())) return step;
  }
}

Result<RemoteStep> RemoteModel::StepOnce(const ClientRequest& request,
                                         const wire::MessageBounds& bounds, size_t results,
                                         const RemoteProgressCallback& on_progress) {
  const u64 result_bytes = wire::ResultBytes(*params_, bounds.level);
  FrameReader reader(std::max<u64>(result_bytes, kMaxTimingBytes));
  RemoteStep step;
  wire::MessageBounds next = bounds;
  const auto finished = [&] { return step.results.size() == results; };
  const auto take = [&](const Frame& frame) -> Status {
    if (finished()) {
      return MakeError(ErrorCode::kCorrupt, "a frame of type {} behind the result",
                       static_cast<int>(frame.type));
    }
    if (frame.type == FrameType::kProgress) return TellProgress(frame, on_progress);
    if (frame.type == FrameType::kTiming) return ReadTiming(frame, step);
    if (frame.type == FrameType::kError) return ErrorFromReply(200, Text(frame.payload));
    PV_ASSIGN_OR_RETURN(ckks::Ciphertext result, wire::ParseResult(*params_, frame.payload, next));
    if (recorder_) recorder_(next.position, request.body, frame.payload);
    step.results.push_back(std::move(result));
    next.position += kPromptCiphertext;
    return {};
  };
  const auto reply = http_.SendStreaming(request, [&](wire::ByteView bytes) -> Status {
    std::vector<Frame> frames;
    PV_RETURN_IF_ERROR(reader.Push(bytes, frames));
    for (const Frame& frame : frames) PV_RETURN_IF_ERROR(take(frame));
    return {};
  });
  if (!reply.ok()) {
    // A connection that broke behind the result has taken nothing away.
    if (finished() && reply.error().code == ErrorCode::kUnavailable) return step;
    return reply.error();
  }
  if (reply->status != 200) return ErrorFromReply(reply->status, reply->text());
  if (finished()) return step;
  return MakeError(ErrorCode::kUnavailable, "position {}: the reply ended without a result",
                   bounds.position);
}

Result<KeyUpload> KeyUpload::Begin(RemoteModel& remote, const Digest& key_id) {
  KeyUpload upload(remote);
  remote.http().set_key_digest(ToHex(key_id));
  const std::string body = json{{"key_id", ToHex(key_id)},
                                {"total_bytes", remote.info().key_stream_bytes},
                                {"request_id", RemoteModel::NewRequestId()}}
                               .dump();
  PV_ASSIGN_OR_RETURN(const json reply,
                      remote.CallRepeated(remote.ShortRequest("POST", "/v1/keys", body)));
  PV_ASSIGN_OR_RETURN(upload.handle_, RemoteModel::NameFrom(reply));
  return upload;
}

Status KeyUpload::Write(wire::ByteView bytes) {
  const size_t chunk = static_cast<size_t>(remote_->info().chunk_bytes);
  pending_.reserve(chunk);
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), chunk - pending_.size());
    pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    if (pending_.size() == chunk) PV_RETURN_IF_ERROR(SendChunk());
  }
  return {};
}

Status KeyUpload::SendChunk() {
  constexpr int kMostDamaged = 3;
  ClientRequest request =
      remote_->NewRequest("PUT", "/v1/keys/chunks/" + std::to_string(next_chunk_));
  request.handle = handle_;
  request.body = pending_;
  request.content_type = kBinaryType;
  request.checksum = ToHex(ChunkChecksum(pending_));
  request.reply_seconds = 5 * remote_->options().reply_seconds;
  std::optional<Error> first;
  Backoff backoff = remote_->NewBackoff();
  for (int damaged = 0;;) {
    const auto reply = remote_->Call(request);
    if (reply.ok()) break;
    if (!first) first = reply.error();
    // Damaged on its way, or a connection that broke: once more. When the bytes themselves are bad,
    // the server has dropped the upload and the first error is the one to tell.
    const bool again = reply.error().code == ErrorCode::kCorrupt ? ++damaged < kMostDamaged
                                                                 : backoff.Again(reply.error());
    if (!again) return *first;
  }
  ++next_chunk_;
  pending_.clear();
  return {};
}

Result<bool> KeyUpload::Ready() {
  ClientRequest request = remote_->NewRequest("GET", "/v1/keys");
  request.handle = handle_;
  PV_ASSIGN_OR_RETURN(const json body, remote_->Call(request));
  return wire::JsonBool(body, "ready");
}

Result<std::string> KeyUpload::Finish() {
  if (!pending_.empty()) PV_RETURN_IF_ERROR(SendChunk());
  ClientRequest request = remote_->NewRequest("POST", "/v1/keys/complete");
  request.handle = handle_;
  request.reply_seconds = request.total_seconds = remote_->options().prepare_seconds;
  // When the reply is lost the server says how far it is; while it answers it may go on preparing.
  Backoff lost = remote_->NewBackoff(),
          preparing(remote_->options().prepare_seconds, remote_->options().cancel);
  while (true) {
    const auto done = remote_->Call(request);
    if (done.ok()) return handle_;
    if (done.error().code != ErrorCode::kUnavailable) return done.error();
    const Result<bool> ready = Ready();
    if (ready.ok() && *ready) return handle_;
    if (!(ready.ok() ? preparing : lost).Again(done.error())) return done.error();
  }
}

void KeyUpload::Abandon() {
  if (!handle_.empty()) (void)remote_->RemoveKeys(handle_).ok();
}

}  // namespace polyveil::serve
