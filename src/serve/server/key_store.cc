#include "serve/server/key_store.h"

#include <unistd.h>

#include "base/csprng.h"
#include "base/digest.h"
#include "base/system.h"
#include "serve/protocol.h"

namespace polyveil::serve {
namespace {

constexpr size_t kMaxUnstarted = 64;

Error NoKeys(const std::string& handle) {
  return MakeError(ErrorCode::kNotFound, "keys '{}' are not here", handle.substr(0, 64));
}

}  // namespace

KeyAllotment AllotKeys(const compile::CompiledProgram& model, const ServiceLimits& limits,
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

KeyStore::KeyStore(std::shared_ptr<const compile::CompiledProgram> model,
                   const ServiceLimits& limits, SessionStore& sessions)
    : model_(std::move(model)), limits_(limits), sessions_(sessions) {
  const auto manifest = wire::ManifestOf(*model_->params(), model_->keys());
  PV_CHECK(manifest.ok(), "the program's own key request: {}", manifest.error().message);
  stream_bytes_ = wire::StreamBytes(*manifest);
}

KeyAllotment KeyStore::NextAllotment() const { return AllotKeys(*model_, limits_, budget_->bytes); }

Status KeyStore::CheckRoom(u64 bytes, size_t sets) const {
  if (budget_->sets - sets >= limits_.key_sets) {
    return MakeError(ErrorCode::kResource, "evaluation keys: {} sets are held of at most {}",
                     budget_->sets.load(), limits_.key_sets);
  }
  const u64 held = budget_->bytes - bytes;
  const u64 needed = held + AllotKeys(*model_, limits_, held).bytes;
  const u64 limit = KeyMemoryLimit(limits_);
  if (limit == 0 || needed <= limit) return {};
  return MakeError(ErrorCode::kResource, "evaluation keys: {} bytes in memory above the limit {}",
                   needed, limit);
}

// In use right now, or idle for too short a time: no.
bool KeyStore::MayYield(KeySet& set) const {
  if (set.pins > 0) return false;
  const std::unique_lock lock(set.mutex, std::try_to_lock);
  if (!lock) return false;
  const double patience = set.last_use.Left() ? limits_.left_seconds : limits_.yield_seconds;
  return set.last_use.IdleSeconds() > patience;
}

KeyStore::Sets::iterator KeyStore::Erase(Sets::iterator found) {
  found->second->removed = true;  // before its sessions go: no new one comes after that
  sessions_.RemoveOfKeys(*found->second);
  return sets_.erase(found);
}

KeyStore::Sets::iterator KeyStore::LongestIdle(const std::function<bool(KeySet&)>& among) {
  auto longest = sets_.end();
  for (auto it = sets_.begin(); it != sets_.end(); ++it) {
    if (!among(*it->second)) continue;
    if (longest == sets_.end() ||
        it->second->last_use.IdleSeconds() > longest->second->last_use.IdleSeconds())
      longest = it;
  }
  return longest;
}

bool KeyStore::YieldOfLocked(const Usage& owner) {
  const auto longest =
      LongestIdle([&](KeySet& set) { return set.owner.get() == &owner && MayYield(set); });
  if (longest == sets_.end()) return false;
  Erase(longest);
  return true;
}

bool KeyStore::YieldOf(const Usage& owner) {
  const std::lock_guard lock(mutex_);
  return YieldOfLocked(owner);
}

Status KeyStore::MakeRoom(const KeySet& asking) {
  while (true) {
    Status room = CheckRoom(0, 0);
    if (room.ok()) return room;
    const auto longest = LongestIdle(
        [&](KeySet& set) { return &set != &asking && set.claim.bytes() > 0 && MayYield(set); });
    if (longest == sets_.end()) return room;
    Erase(longest);
  }
}

// Those who have only asked take no room but their names: the oldest of too many are forgotten.
void KeyStore::LimitUnstarted() {
  size_t count = 0;
  auto oldest = sets_.end();
  for (auto it = sets_.begin(); it != sets_.end(); ++it) {
    const std::unique_lock lock(it->second->mutex, std::try_to_lock);
    if (!lock || it->second->reader) continue;
    ++count;
    if (oldest == sets_.end() ||
        it->second->last_use.IdleSeconds() > oldest->second->last_use.IdleSeconds()) {
      oldest = it;
    }
  }
  if (count > kMaxUnstarted) Erase(oldest);
}

Result<std::shared_ptr<KeySet>> KeyStore::Begin(const UploadRequest& request,
                                                std::weak_ptr<const void> connection) {
  if (request.total_bytes != stream_bytes_) {
    return MakeError(ErrorCode::kMismatch,
                     "evaluation keys: {} bytes announced, the program needs {}",
                     request.total_bytes, stream_bytes_);
  }
  const std::lock_guard lock(mutex_);
  u64 yielding_bytes = 0;
  size_t yielding_sets = 0;
  for (const auto& [handle, set] : sets_) {
    const bool same = set->request_id == request.request_id && set->key_id == request.key_id &&
                      set->owner == request.member.usage;
    if (same && !request.request_id.empty()) return set;
    if (set->claim.bytes() == 0 || !MayYield(*set)) continue;
    yielding_bytes += set->claim.bytes();
    ++yielding_sets;
  }
  PV_RETURN_IF_ERROR(CheckRoom(yielding_bytes, yielding_sets));
  const auto take = [&] {
    return Charge::Try(request.member.usage, &Usage::key_sets, 1,
                       request.member.account->quota.key_sets);
  };
  auto place = take();
  while (!place && YieldOfLocked(*request.member.usage)) place = take();
  if (!place) return std::shared_ptr<KeySet>();
  auto set = std::make_shared<KeySet>(NewHandle(), request.key_id, request.request_id,
                                      request.member.usage, std::move(*place));
  set->last_use.Touch(std::move(connection));
  sets_.emplace(set->handle, set);
  LimitUnstarted();
  return set;
}

Result<std::shared_ptr<KeySet>> KeyStore::Restore(UploadRequest request, const std::string& handle,
                                                  bool started) {
  if (request.total_bytes != stream_bytes_)
    return MakeError(ErrorCode::kMismatch, "evaluation keys: {} bytes stored, the program needs {}",
                     request.total_bytes, stream_bytes_);
  auto place = Charge::Try(request.member.usage, &Usage::key_sets, 1,
                           request.member.account->quota.key_sets);
  if (!place)
    return MakeError(ErrorCode::kResource, "account '{}': no place for another key set",
                     request.member.account->name);
  auto set = std::make_shared<KeySet>(handle, request.key_id, request.request_id,
                                      request.member.usage, std::move(*place));
  const std::lock_guard set_lock(set->mutex);
  if (started) PV_RETURN_IF_ERROR(Start(*set));
  const std::lock_guard lock(mutex_);
  sets_.emplace(handle, set);
  return set;
}

Result<std::shared_ptr<KeySet>> KeyStore::Find(const std::string& handle) const {
  const std::lock_guard lock(mutex_);
  const auto found = sets_.find(handle);
  if (found == sets_.end()) return NoKeys(handle);
  return found->second;
}

Status KeyStore::Remove(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  const auto found = sets_.find(handle);
  if (found == sets_.end()) return NoKeys(handle);
  Erase(found);
  return {};
}

size_t KeyStore::Report(MemoryReport& report) const {
  std::vector<std::shared_ptr<KeySet>> sets;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [handle, set] : sets_) sets.push_back(set);
  }
  for (const auto& set : sets) {
    std::unique_lock lock(set->mutex, std::try_to_lock);  // an upload's piece may take a while
    if (!lock) continue;
    if (set->engine) {
      set->engine->Report(report);
    } else if (set->reader) {
      report.Add("keys: uploads under way", set->reader->key_bytes());
    }
  }
  return sets.size();
}

void KeyStore::RemoveExpired() {
  const std::lock_guard lock(mutex_);
  for (auto it = sets_.begin(); it != sets_.end();) {
    KeySet& set = *it->second;
    std::unique_lock set_lock(set.mutex, std::try_to_lock);
    const bool in_use = !set_lock || set.pins > 0;
    const double limit =
        !in_use && set.engine ? limits_.key_idle_seconds : limits_.upload_idle_seconds;
    if (set_lock) set_lock.unlock();
    it = !in_use && set.last_use.IdleSeconds() > limit ? Erase(it) : std::next(it);
  }
}

Status KeyStore::CheckChunk(const KeySet& set, u64 index, wire::ByteView bytes,
                            std::string_view checksum) const {
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
  if (checksum == computed) return {};
  return MakeError(ErrorCode::kCorrupt, "chunk {}: {} '{}', computed {}", index, kChecksumHeader,
                   checksum.substr(0, 16), computed.substr(0, 16));
}

Status KeyStore::Start(KeySet& set) {
  const std::lock_guard lock(mutex_);
  if (set.removed) return NoKeys(set.handle);
  PV_RETURN_IF_ERROR(MakeRoom(set));
  const KeyAllotment allotment = AllotKeys(*model_, limits_, budget_->bytes);
  PV_ASSIGN_OR_RETURN(auto reader, wire::KeyStreamReader::Create(model_->params(), model_->keys(),
                                                                 set.key_id, allotment.expanded));
  set.reader.emplace(std::move(reader));
  set.claim = KeyClaim(budget_, allotment.bytes);
  return {};
}

Status KeyStore::AddChunk(KeySet& set, u64 index, wire::ByteView bytes, std::string_view checksum,
                          std::weak_ptr<const void> connection, Charge received,
                          const std::function<Status()>& store) {
  const std::lock_guard lock(set.mutex);
  PV_RETURN_IF_ERROR(CheckChunk(set, index, bytes, checksum));
  if (index < set.next_chunk) return {};
  if (!set.reader) PV_RETURN_IF_ERROR(Start(set));
  if (store) PV_RETURN_IF_ERROR(store());
  PV_RETURN_IF_ERROR(set.reader->Push(bytes));
  ++set.next_chunk;
  set.received.Merge(std::move(received));
  set.last_use.Touch(std::move(connection));
  return {};
}

}  // namespace polyveil::serve
