#include "serve/server/session_store.h"

namespace polyveil::serve {
namespace {

Error NotHere(const std::string& handle) {
  return MakeError(ErrorCode::kNotFound, "session '{}' is not here", handle.substr(0, 64));
}

}  // namespace

Result<SessionLease> SessionLease::Acquire(std::shared_ptr<Session> session) {
  if (session->busy.exchange(true)) {
    return MakeError(ErrorCode::kUnavailable, "session '{}': a step is under way", session->handle);
  }
  return SessionLease(std::move(session));
}

SessionLease::~SessionLease() {
  if (session_) session_->busy = false;
}

Result<std::shared_ptr<Session>> SessionStore::Create(const std::shared_ptr<KeySet>& keys) {
  std::shared_ptr<const runtime::Engine> engine;
  {
    const std::lock_guard lock(keys->mutex);
    engine = keys->engine;
  }
  if (!engine) {
    return MakeError(ErrorCode::kUnavailable, "keys '{}' are not complete", keys->handle);
  }
  RemoveExpired();
  const std::lock_guard lock(mutex_);
  if (sessions_.size() >= limits_.sessions) {
    return MakeError(ErrorCode::kResource, "sessions: {} are held of at most {}", sessions_.size(),
                     limits_.sessions);
  }
  auto session = std::make_shared<Session>(NewHandle(), keys, std::move(engine));
  session->last_used = clock_.Seconds();
  sessions_.emplace(session->handle, session);
  return session;
}

Result<std::shared_ptr<Session>> SessionStore::Find(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(handle);
  if (found == sessions_.end()) return NotHere(handle);
  found->second->last_used = clock_.Seconds();
  return found->second;
}

Status SessionStore::Remove(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  if (sessions_.erase(handle) == 0) return NotHere(handle);
  return {};
}

void SessionStore::RemoveOfKeys(const KeySet& keys) {
  const std::lock_guard lock(mutex_);
  std::erase_if(sessions_, [&](const auto& entry) { return entry.second->keys.get() == &keys; });
}

size_t SessionStore::Report(MemoryReport& report) {
  const std::lock_guard lock(mutex_);
  for (const auto& [handle, session] : sessions_)
    report.Add("encrypted caches", session->state_bytes);
  return sessions_.size();
}

void SessionStore::RemoveExpired() {
  const std::lock_guard lock(mutex_);
  const double now = clock_.Seconds();
  std::erase_if(sessions_, [&](const auto& entry) {
    return !entry.second->busy && now - entry.second->last_used > limits_.session_idle_seconds;
  });
}

}  // namespace polyveil::serve
