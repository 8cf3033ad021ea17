// Texts under way: each an encrypted key-value cache and a position.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "serve/server/key_store.h"

namespace polyveil::serve {

struct Session {
  Session(std::string name, std::shared_ptr<KeySet> set,
          std::shared_ptr<const runtime::Engine> engine)
      : handle(std::move(name)), keys(std::move(set)), decoder(std::move(engine)) {}

  const std::string handle;
  const std::shared_ptr<KeySet> keys;
  std::atomic<bool> busy{false};    // a step has the decoder
  runtime::DecoderSession decoder;  // of whoever set busy
  std::mutex mutex;
  runtime::LatencyTable latency;  // of all steps; guarded by mutex
  std::atomic<int> position{0};
  std::atomic<size_t> state_bytes{0};  // of the decoder, after its last step
  std::atomic<double> last_used{0};
};

// The right to step a session; one at a time.
class SessionLease {
 public:
  // Errors: kUnavailable when a step is under way.
  static Result<SessionLease> Acquire(std::shared_ptr<Session> session);
  SessionLease(SessionLease&&) noexcept = default;
  SessionLease& operator=(SessionLease&&) = delete;
  ~SessionLease();
  Session& session() { return *session_; }

 private:
  explicit SessionLease(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  std::shared_ptr<Session> session_;
};

class SessionStore {
 public:
  explicit SessionStore(const ServiceLimits& limits) : limits_(limits) {}

  // Errors: kResource (sessions held, limit), kUnavailable (the keys are not complete).
  Result<std::shared_ptr<Session>> Create(const std::shared_ptr<KeySet>& keys);
  Result<std::shared_ptr<Session>> Find(const std::string& handle);  // kNotFound
  Status Remove(const std::string& handle);
  void RemoveOfKeys(const KeySet& keys);
  // Adds the encrypted caches; returns the number of sessions.
  size_t Report(MemoryReport& report);

 private:
  void RemoveExpired();

  const ServiceLimits limits_;
  Timer clock_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;  // guarded by mutex_
};

}  // namespace polyveil::serve
