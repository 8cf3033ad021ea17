#include "serve/server/key_store.h"

#include "base/csprng.h"
#include "base/digest.h"
#include "base/system.h"
#include "serve/protocol.h"

namespace polyveil::serve {

u64 KeyMemoryLimit(const ServiceLimits& limits) {
  return limits.key_memory_bytes != 0 ? limits.key_memory_bytes : MemoryBytes() / 4 * 3;
}

std::string NewHandle() {
  const Seed seed = RandomSeed();
  return ToHex(std::span(seed).first(16));
}

KeyAllotment AllotKeys(const compile::CompiledModel& model, const ServiceLimits& limits,
                       u64 held_bytes) {
  const u64 limit = KeyMemoryLimit(limits);
  u64 budget = limits.key_set_bytes;
  if (limit != 0) budget = std::min(budget, limit > held_bytes ? limit - held_bytes : 0);
  const ckks::Parameters& params = *model.params();
  KeyAllotment result;
  result.expanded =
      ckks::KeysToExpand(params, model.keys(), model.key_uses(), limits.key_storage, budget);
  result.bytes = ckks::KeyMemoryBytes(params, model.keys(), result.expanded);
  return result;
}

KeyStore::KeyStore(std::shared_ptr<const compile::CompiledModel> model, const ServiceLimits& limits)
    : model_(std::move(model)), limits_(limits) {
  const auto manifest = wire::ManifestOf(*model_->params(), model_->keys());
  PV_CHECK(manifest.ok(), "the program's own key request: {}", manifest.error().message);
  stream_bytes_ = wire::StreamBytes(*manifest);
}

u64 KeyStore::HeldBytes() const {
  u64 bytes = 0;
  for (const auto& [handle, set] : sets_) bytes += set->bytes;
  return bytes;
}

KeyAllotment KeyStore::NextAllotment() {
  const std::lock_guard lock(mutex_);
  return AllotKeys(*model_, limits_, HeldBytes());
}

Result<std::shared_ptr<KeySet>> KeyStore::Begin(const Digest& key_id, u64 total_bytes) {
  if (total_bytes != stream_bytes_) {
    return MakeError(ErrorCode::kMismatch,
                     "evaluation keys: {} bytes announced, the program needs {}", total_bytes,
                     stream_bytes_);
  }
  RemoveExpired();
  const std::lock_guard lock(mutex_);
  if (sets_.size() >= limits_.key_sets) {
    return MakeError(ErrorCode::kResource, "evaluation keys: {} sets are held of at most {}",
                     sets_.size(), limits_.key_sets);
  }
  const KeyAllotment allotment = AllotKeys(*model_, limits_, HeldBytes());
  const u64 needed = HeldBytes() + allotment.bytes;
  const u64 limit = KeyMemoryLimit(limits_);
  if (limit != 0 && needed > limit) {
    return MakeError(ErrorCode::kResource, "evaluation keys: {} bytes in memory above the limit {}",
                     needed, limit);
  }
  PV_ASSIGN_OR_RETURN(auto reader, wire::KeyStreamReader::Create(model_->params(), model_->keys(),
                                                                 key_id, allotment.expanded));
  auto set = std::make_shared<KeySet>(NewHandle(), std::move(reader), allotment.bytes);
  set->key_id = key_id;
  set->last_used = clock_.Seconds();
  sets_.emplace(set->handle, set);
  return set;
}

Result<std::shared_ptr<KeySet>> KeyStore::Find(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  const auto found = sets_.find(handle);
  if (found == sets_.end()) {
    return MakeError(ErrorCode::kNotFound, "keys '{}' are not here", handle.substr(0, 64));
  }
  found->second->last_used = clock_.Seconds();
  return found->second;
}

Status KeyStore::Remove(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  if (sets_.erase(handle) != 0) return {};
  return MakeError(ErrorCode::kNotFound, "keys '{}' are not here", handle.substr(0, 64));
}

size_t KeyStore::Report(MemoryReport& report) {
  std::vector<std::shared_ptr<KeySet>> sets;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [handle, set] : sets_) sets.push_back(set);
  }
  for (const auto& set : sets) {
    std::unique_lock lock(set->mutex, std::try_to_lock);  // an upload's piece may take a while
    if (lock && set->engine) set->engine->Report(report);
    if (lock && !set->engine) report.Add("keys: uploads under way", set->reader.key_bytes());
  }
  return sets.size();
}

void KeyStore::RemoveExpired() {
  const std::lock_guard lock(mutex_);
  const double now = clock_.Seconds();
  std::erase_if(sets_, [&](const auto& entry) {
    KeySet& set = *entry.second;
    std::unique_lock set_lock(set.mutex, std::try_to_lock);
    if (!set_lock || entry.second.use_count() > 1) return false;  // in use right now
    const double limit = set.engine ? limits_.key_idle_seconds : limits_.upload_idle_seconds;
    const bool expired = now - set.last_used > limit;
    return expired;
  });
}

Status KeyStore::AddChunk(KeySet& set, u64 index, wire::ByteView bytes, std::string_view checksum) {
  const std::lock_guard lock(set.mutex);
  const u64 count = (stream_bytes_ + limits_.chunk_bytes - 1) / limits_.chunk_bytes;
  if (index >= count || index > set.next_chunk) {
    return MakeError(ErrorCode::kMismatch, "chunk {} of {}: expected {}", index, count,
                     set.next_chunk);
  }
  if (index < set.next_chunk) return {};
  const u64 size = std::min(limits_.chunk_bytes, stream_bytes_ - index * limits_.chunk_bytes);
  if (bytes.size() != size) {
    return MakeError(ErrorCode::kMismatch, "chunk {}: {} bytes, expected {}", index, bytes.size(),
                     size);
  }
  const std::string computed = ToHex(ChunkChecksum(bytes));
  if (checksum != computed) {
    return MakeError(ErrorCode::kCorrupt, "chunk {}: {} '{}', computed {}", index, kChecksumHeader,
                     checksum.substr(0, 16), computed.substr(0, 16));
  }
  PV_RETURN_IF_ERROR(set.reader.Push(bytes));
  ++set.next_chunk;
  return {};
}

Result<std::shared_ptr<const ckks::EvaluationKeys>> KeyStore::TakeKeys(KeySet& set) {
  const std::lock_guard lock(set.mutex);
  if (set.preparing || set.engine) {
    return MakeError(ErrorCode::kUnavailable, "keys '{}' are complete already", set.handle);
  }
  if (!set.reader.complete()) {
    return MakeError(ErrorCode::kMismatch, "evaluation keys: {} of {} bytes received",
                     set.reader.received(), set.reader.total());
  }
  set.preparing = true;
  return std::shared_ptr<const ckks::EvaluationKeys>(
      std::make_shared<ckks::EvaluationKeys>(set.reader.TakeKeys()));
}

}  // namespace polyveil::serve
