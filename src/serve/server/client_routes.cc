#include "serve/server/client_routes.h"

#include <algorithm>
#include <charconv>

#include "serve/protocol.h"

namespace polyveil::serve {
namespace {

std::optional<u64> Number(std::string_view text) {
  u64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<std::optional<std::pair<u64, u64>>> ParseRange(std::string_view field, u64 size) {
  constexpr std::string_view kUnit = "bytes=";
  using Range = std::optional<std::pair<u64, u64>>;
  const size_t dash = field.find('-');
  if (!field.starts_with(kUnit) || dash == std::string_view::npos) return Range();
  const auto first = Number(field.substr(kUnit.size(), dash - kUnit.size()));
  const std::string_view behind = field.substr(dash + 1);
  const auto last = Number(behind);
  if (!first || (!behind.empty() && (!last || *last < *first))) return Range();
  if (*first >= size)
    return MakeError(ErrorCode::kOutOfRange, "range from byte {} of {} bytes", *first, size);
  return Range(std::pair(*first, last && *last < size ? *last + 1 : size));
}

ClientRoutes::ClientRoutes(std::shared_ptr<const model::ClientFiles> files)
    : files_(std::move(files)) {
  if (!files_) return;
  const model::ClientManifest manifest = files_->Manifest();
  manifest_ = manifest.Format();
  for (const auto& entry : manifest.files)
    by_digest_.emplace(entry.sha256, files_->Find(entry.name));
}

Status ClientRoutes::Handle(Exchange& exchange, const std::vector<std::string>& path) const {
  if (!files_)
    return MakeError(ErrorCode::kNotFound, "this server has no client's half of its model to send");
  if (path.size() == 2 && path[0] == "files") return SendFile(exchange, path[1]);
  if (!path.empty()) return MakeError(ErrorCode::kNotFound, "no such part of the client's half");
  HttpReply reply;
  reply.text = manifest_;
  // A client that is gone has no use for an error.
  (void)exchange.Reply(reply).ok();
  return {};
}

Status ClientRoutes::SendFile(Exchange& exchange, const std::string& digest) const {
  const auto found = by_digest_.find(digest);
  if (found == by_digest_.end())
    return MakeError(ErrorCode::kNotFound, "no file of the client's half has the digest '{}'",
                     digest.substr(0, 64));
  const model::ClientFile& file = *found->second;
  const u64 size = file.bytes.size();
  HttpReply reply;
  reply.content_type = kBinaryType;
  reply.view = file.bytes;
  const auto range = ParseRange(exchange.request().range, size);
  if (!range.ok()) {
    reply = {};
    reply.status = 416;
    reply.text = ErrorToJson(range.error());
    reply.content_range = fmt::format("bytes */{}", size);
  } else if (range->has_value()) {
    const auto [first, end] = **range;
    reply.status = 206;
    reply.view = file.bytes.subspan(first, end - first);
    reply.content_range = fmt::format("bytes {}-{}/{}", first, end - 1, size);
  }
  (void)exchange.Reply(reply).ok();
  return {};
}

}  // namespace polyveil::serve
