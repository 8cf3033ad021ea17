#include "serve/server/session_store.h"

#include "base/csprng.h"
#include "base/digest.h"
#include "serve/server/compute_queue.h"

namespace polyveil::serve {
namespace {

Error NotHere(const std::string& handle) {
  return MakeError(ErrorCode::kNotFound, "session '{}' is not here", handle.substr(0, 64));
}

bool IsLeased(Session& session) {
  const std::lock_guard lock(session.mutex);
  return session.leased;
}

}  // namespace

std::string NewHandle() {
  const Seed seed = RandomSeed();
  return ToHex(std::span(seed).first(16));
}

SessionLease::SessionLease(std::shared_ptr<Session> session, std::weak_ptr<const void> connection)
    : session_(std::move(session)), pin_(Pin(session_->keys)), connection_(std::move(connection)) {
  session_->last_use.Touch(connection_);
  session_->keys->last_use.Touch(connection_);
}

Result<SessionLease> SessionLease::Acquire(std::shared_ptr<Session> session, Exchange& exchange,
                                           double seconds) {
  const Timer timer;
  std::unique_lock lock(session->mutex);
  while (session->leased) {
    if (timer.Seconds() >= seconds || exchange.Disconnected()) {
      return MakeError(ErrorCode::kUnavailable, "session '{}': a step is under way",
                       session->handle);
    }
    session->returned.wait_for(lock, std::chrono::duration<double>(kPollSeconds));
  }
  if (session->removed) return NotHere(session->handle);
  session->leased = true;
  lock.unlock();
  return SessionLease(std::move(session), exchange.connection());
}

void SessionLease::Return() {
  if (!session_) return;
  session_->last_use.Touch(connection_);
  session_->keys->last_use.Touch(connection_);
  {
    const std::lock_guard lock(session_->mutex);
    session_->leased = false;
  }
  session_->returned.notify_one();
  pin_.reset();
  session_.reset();
}

size_t SessionStore::CountOf(const KeySet& keys) const {
  size_t count = 0;
  for (const auto& [handle, session] : sessions_) count += session->keys.get() == &keys;
  return count;
}

bool SessionStore::MayYield(Session& session) const {
  const double patience = session.last_use.Left() ? limits_.left_seconds : limits_.yield_seconds;
  return !IsLeased(session) && session.last_use.IdleSeconds() > patience;
}

bool SessionStore::YieldOf(const Usage& owner) {
  auto longest = sessions_.end();
  for (auto it = sessions_.begin(); it != sessions_.end(); ++it) {
    Session& session = *it->second;
    if (session.keys->owner.get() != &owner || !MayYield(session)) continue;
    if (longest == sessions_.end() ||
        session.last_use.IdleSeconds() > longest->second->last_use.IdleSeconds())
      longest = it;
  }
  if (longest == sessions_.end()) return false;
  longest->second->removed = true;
  sessions_.erase(longest);
  return true;
}

Status SessionStore::MakeRoom(const KeySet& asking) {
  if (sessions_.size() < limits_.sessions) return {};
  // The longest idle of those that may go, and of those of the client with the most.
  Sessions::iterator idle = sessions_.end(), greedy = sessions_.end();
  size_t most = CountOf(asking) + 1;
  const auto longer = [&](Sessions::iterator one, Sessions::iterator other) {
    return other == sessions_.end() ||
           one->second->last_use.IdleSeconds() > other->second->last_use.IdleSeconds();
  };
  for (auto it = sessions_.begin(); it != sessions_.end(); ++it) {
    Session& session = *it->second;
    if (IsLeased(session)) continue;
    if (MayYield(session) && longer(it, idle)) idle = it;
    const size_t count = CountOf(*session.keys);
    if (count > most || (count == most && greedy != sessions_.end() && longer(it, greedy))) {
      greedy = it;
      most = count;
    }
  }
  const auto victim = idle != sessions_.end() ? idle : greedy;
  if (victim == sessions_.end()) {
    return MakeError(ErrorCode::kResource, "sessions: {} are held of at most {}", sessions_.size(),
                     limits_.sessions);
  }
  victim->second->removed = true;
  sessions_.erase(victim);
  return {};
}

Result<std::shared_ptr<Session>> SessionStore::Create(const std::shared_ptr<KeySet>& keys,
                                                      SessionRequest request,
                                                      std::weak_ptr<const void> connection) {
  std::shared_ptr<const runtime::Engine> engine;
  {
    const std::lock_guard lock(keys->mutex);
    engine = keys->engine;
  }
  if (!engine) {
    return MakeError(ErrorCode::kUnavailable, "keys '{}' are not complete", keys->handle);
  }
  const std::lock_guard lock(mutex_);
  // Either this is seen here, or the keys' sessions are removed after this one has been added.
  if (keys->removed) {
    return MakeError(ErrorCode::kNotFound, "keys '{}' are not here", keys->handle);
  }
  keys->last_use.Touch(connection);
  for (const auto& [handle, session] : sessions_) {
    const bool same = session->keys == keys && session->request_id == request.request_id;
    if (!same || request.request_id.empty()) continue;
    if (session->public_digest == request.public_digest) return session;
    return MakeError(ErrorCode::kMismatch,
                     "session of request '{}': its public context is {}..., asked for {}...",
                     request.request_id, ToHex(session->public_digest).substr(0, 16),
                     ToHex(request.public_digest).substr(0, 16));
  }
  const auto take = [&] {
    return Charge::Try(request.member.usage, &Usage::sessions, 1,
                       request.member.account->quota.sessions);
  };
  auto place = take();
  while (!place && YieldOf(*request.member.usage)) place = take();
  if (!place) return std::shared_ptr<Session>();
  request.place = std::move(*place);
  PV_RETURN_IF_ERROR(MakeRoom(*keys));
  auto session =
      std::make_shared<Session>(NewHandle(), std::move(request), keys, std::move(engine));
  session->last_use.Touch(std::move(connection));
  sessions_.emplace(session->handle, session);
  return session;
}

Status SessionStore::Restore(const std::shared_ptr<Session>& session) {
  const std::lock_guard lock(mutex_);
  if (session->keys->removed) return NotHere(session->handle);
  PV_RETURN_IF_ERROR(MakeRoom(*session->keys));
  sessions_.emplace(session->handle, session);
  return {};
}

Result<std::shared_ptr<Session>> SessionStore::Find(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(handle);
  if (found == sessions_.end()) return NotHere(handle);
  return found->second;
}

Status SessionStore::Remove(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(handle);
  if (found == sessions_.end()) return NotHere(handle);
  found->second->removed = true;
  sessions_.erase(found);
  return {};
}

void SessionStore::EraseIf(const std::function<bool(Session&)>& condition) {
  std::erase_if(sessions_, [&](const auto& entry) {
    const bool erase = condition(*entry.second);
    if (erase) entry.second->removed = true;
    return erase;
  });
}

void SessionStore::RemoveOfKeys(const KeySet& keys) {
  const std::lock_guard lock(mutex_);
  EraseIf([&](Session& session) { return session.keys.get() == &keys; });
}

void SessionStore::RemoveExpired() {
  const std::lock_guard lock(mutex_);
  EraseIf([&](Session& session) {
    return !IsLeased(session) && session.last_use.IdleSeconds() > limits_.session_idle_seconds;
  });
}

size_t SessionStore::Report(MemoryReport& report) {
  const std::lock_guard lock(mutex_);
  for (const auto& [handle, session] : sessions_)
    report.Add("encrypted caches", session->state_bytes);
  return sessions_.size();
}

}  // namespace polyveil::serve
