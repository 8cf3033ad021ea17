#include "serve/client/remote_model.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "wire/json_fields.h"
#include "wire/key_format.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

constexpr double kPrepareSeconds = 900;
// The server reports at least every five seconds while a step waits or runs.
constexpr double kStepSilenceSeconds = 60;
constexpr u64 kMaxStepExtraBytes = u64{64} << 20;  // progress frames of a long step

wire::ByteView View(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Result<json> ParsePayload(const wire::Bytes& payload, const char* what) {
  return wire::ParseJson({reinterpret_cast<const char*>(payload.data()), payload.size()},
                         kMaxJsonBytes, what);
}

Status TellProgress(const Frame& frame, const RemoteProgressCallback& on_progress) {
  if (!on_progress) return {};
  PV_ASSIGN_OR_RETURN(const json body, ParsePayload(frame.payload, "progress frame"));
  RemoteProgress progress;
  PV_ASSIGN_OR_RETURN(progress.done, wire::JsonNumber(body, "done", 0, 1.01));
  PV_ASSIGN_OR_RETURN(progress.operation, wire::JsonString(body, "operation", 256));
  PV_ASSIGN_OR_RETURN(const auto queued, wire::JsonInteger(body, "queued", 0, 1 << 20));
  progress.queued = static_cast<int>(queued);
  on_progress(progress);
  return {};
}

Status ReadTiming(const Frame& frame, RemoteStep& step) {
  PV_ASSIGN_OR_RETURN(const json body, ParsePayload(frame.payload, "timing frame"));
  PV_ASSIGN_OR_RETURN(const json* latency, wire::JsonField(body, "latency"));
  PV_ASSIGN_OR_RETURN(step.latency, LatencyFromJson(*latency));
  PV_ASSIGN_OR_RETURN(const auto rss, wire::JsonInteger(body, "peak_rss_bytes", 0, INT64_MAX));
  step.server_peak_rss_bytes = static_cast<u64>(rss);
  return {};
}

}  // namespace

Result<std::unique_ptr<RemoteModel>> RemoteModel::Connect(const Url& url, bool allow_insecure,
                                                          const std::atomic<bool>* cancel) {
  std::unique_ptr<RemoteModel> remote(new RemoteModel(url, cancel));
  PV_ASSIGN_OR_RETURN(const json body, remote->Call("GET", "/v1/model", {}));
  PV_ASSIGN_OR_RETURN(ModelInfo info, InfoFromJson(body));
  PV_RETURN_IF_ERROR(remote->Adopt(std::move(info), allow_insecure));
  return remote;
}

Status RemoteModel::Adopt(ModelInfo info, bool allow_insecure) {
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(info.parameters));
  PV_ASSIGN_OR_RETURN(params_, ckks::Parameters::Create(spec));
  if (info.parameters_digest != ToHex(params_->digest())) {
    return MakeError(ErrorCode::kMismatch,
                     "parameters '{}': the server's digest {}... differs from this program's {}...",
                     info.parameters, info.parameters_digest.substr(0, 16),
                     ToHex(params_->digest()).substr(0, 16));
  }
  if (params_->insecure() && !allow_insecure) {
    return MakeError(
        ErrorCode::kSecurity,
        "the server runs parameters '{}', insecure and for tests only (--insecure-test "
        "allows them)",
        info.parameters);
  }
  if (info.input_level > params_->max_level() || info.output_level > params_->max_level()) {
    return MakeError(ErrorCode::kOutOfRange, "the server's levels {} and {} are above {}",
                     info.input_level, info.output_level, params_->max_level());
  }
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*params_, info.keys));
  if (wire::StreamBytes(manifest) != info.key_stream_bytes) {
    return MakeError(ErrorCode::kMismatch,
                     "evaluation keys: the server expects {} bytes, they have {}",
                     info.key_stream_bytes, wire::StreamBytes(manifest));
  }
  PV_ASSIGN_OR_RETURN(program_digest_, DigestFromHex(info.program_digest));
  info_ = std::move(info);
  return {};
}

Result<json> RemoteModel::Call(const char* method, const std::string& path, std::string_view body,
                               double reply_seconds) {
  ClientRequest request;
  request.method = method;
  request.path = path;
  request.body = View(body);
  request.reply_seconds = reply_seconds;
  return CallWith(std::move(request));
}

Result<json> RemoteModel::CallWith(ClientRequest request) {
  PV_ASSIGN_OR_RETURN(const ClientReply reply, http_.Send(request));
  if (reply.status / 100 != 2) return ErrorFromReply(reply.status, reply.text());
  return wire::ParseJson(reply.text(), kMaxJsonBytes, request.path);
}

Status RemoteModel::Delete(const std::string& path) {
  ClientRequest request;
  request.method = "DELETE";
  request.path = path;
  request.reply_seconds = 10;
  request.ignore_cancel = true;
  PV_RETURN_IF_ERROR(CallWith(std::move(request)));
  return {};
}

Result<std::string> RemoteModel::CreateSession(const std::string& keys) {
  PV_ASSIGN_OR_RETURN(const json body, Call("POST", "/v1/sessions", json{{"keys", keys}}.dump()));
  return wire::JsonString(body, "id", 64);
}

Status RemoteModel::RemoveSession(const std::string& session) {
  return Delete("/v1/sessions/" + session);
}

Status RemoteModel::RemoveKeys(const std::string& keys) { return Delete("/v1/keys/" + keys); }

Result<std::vector<MemoryReport::Entry>> RemoteModel::Memory() {
  PV_ASSIGN_OR_RETURN(const json body, Call("GET", "/v1/status", {}));
  PV_ASSIGN_OR_RETURN(const json* memory, wire::JsonField(body, "memory"));
  return MemoryFromJson(*memory);
}

Result<runtime::LatencyTable> RemoteModel::Latency(const std::string& session) {
  PV_ASSIGN_OR_RETURN(const json body, Call("GET", "/v1/sessions/" + session + "/latency", {}));
  PV_ASSIGN_OR_RETURN(const json* latency, wire::JsonField(body, "latency"));
  return LatencyFromJson(*latency);
}

Result<RemoteStep> RemoteModel::Step(const std::string& session, const Digest& key_id, u32 position,
                                     const ckks::SeededCiphertext& token,
                                     const RemoteProgressCallback& on_progress) {
  wire::MessageBounds bounds;
  bounds.binding = {params_->digest(), program_digest_, key_id};
  bounds.position = position;
  bounds.level = info_.output_level;
  bounds.scale = params_->scale(bounds.level);
  const wire::Bytes body = wire::FormatToken(*params_, bounds.binding, position, token);
  const u64 result_bytes = wire::ResultBytes(*params_, bounds.level);
  ClientRequest request{"POST",
                        "/v1/sessions/" + session + "/step",
                        body,
                        kBinaryType,
                        {},
                        kStepSilenceSeconds,
                        result_bytes + kMaxStepExtraBytes};
  FrameReader reader(std::max<u64>(result_bytes, kMaxJsonBytes));
  RemoteStep step;
  bool finished = false;
  const auto take = [&](const Frame& frame) -> Status {
    if (frame.type == FrameType::kProgress) return TellProgress(frame, on_progress);
    if (frame.type == FrameType::kTiming) return ReadTiming(frame, step);
    if (frame.type == FrameType::kError) {
      return ErrorFromReply(
          200, {reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size()});
    }
    PV_ASSIGN_OR_RETURN(step.result, wire::ParseResult(*params_, frame.payload, bounds));
    finished = true;
    return {};
  };
  PV_ASSIGN_OR_RETURN(const ClientReply reply,
                      http_.SendStreaming(request, [&](wire::ByteView bytes) -> Status {
                        std::vector<Frame> frames;
                        PV_RETURN_IF_ERROR(reader.Push(bytes, frames));
                        for (const Frame& frame : frames) PV_RETURN_IF_ERROR(take(frame));
                        return {};
                      }));
  if (reply.status != 200) return ErrorFromReply(reply.status, reply.text());
  if (finished) return step;
  return MakeError(ErrorCode::kCorrupt, "position {}: the reply ended without a result", position);
}

Result<KeyUpload> KeyUpload::Begin(RemoteModel& remote, const Digest& key_id) {
  KeyUpload upload(remote);
  const json body = {{"key_id", ToHex(key_id)}, {"total_bytes", remote.info().key_stream_bytes}};
  PV_ASSIGN_OR_RETURN(const json reply, remote.Call("POST", "/v1/keys", body.dump()));
  PV_ASSIGN_OR_RETURN(upload.handle_, wire::JsonString(reply, "id", 64));
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
  constexpr int kAttempts = 3;
  ClientRequest request{"PUT",
                        "/v1/keys/" + handle_ + "/chunks/" + std::to_string(next_chunk_),
                        pending_,
                        kBinaryType,
                        ToHex(ChunkChecksum(pending_)),
                        300};
  std::optional<Error> first;
  for (int attempt = 1;; ++attempt) {
    const auto reply = remote_->http().Send(request);
    if (reply.ok() && reply->status == 200) break;
    const Error error = reply.ok() ? ErrorFromReply(reply->status, reply->text()) : reply.error();
    if (!first) first = error;
    // Damaged on its way, or a connection that broke: once more. When the bytes themselves are bad,
    // the server has dropped the upload and the first error is the one to tell.
    const bool again = error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kCorrupt;
    if (!again || attempt == kAttempts) return *first;
  }
  ++next_chunk_;
  pending_.clear();
  return {};
}

Result<std::string> KeyUpload::Finish() {
  if (!pending_.empty()) PV_RETURN_IF_ERROR(SendChunk());
  PV_RETURN_IF_ERROR(
      remote_->Call("POST", "/v1/keys/" + handle_ + "/complete", {}, kPrepareSeconds));
  return handle_;
}

}  // namespace polyveil::serve
