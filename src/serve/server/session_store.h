// Texts under way: each an encrypted key-value cache and a position.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/server/http_server.h"
#include "serve/server/key_set.h"
#include "serve/server/service_limits.h"

namespace polyveil::serve {

// A random 128-bit name, hexadecimal: who knows it may use what it names.
std::string NewHandle();

struct SessionRequest {
  std::string request_id;  // may be empty
  Digest public_digest{};
  std::shared_ptr<const model::PublicContext> known;  // null: all tokens are encrypted
  std::vector<std::int32_t> public_tokens;            // of it
  Member member;
  Charge place = {};  // of the member's sessions; the store's
};

struct Session {
  Session(std::string name, SessionRequest request, std::shared_ptr<KeySet> set,
          std::shared_ptr<const runtime::Engine> engine)
      : handle(std::move(name)),
        request_id(std::move(request.request_id)),
        public_digest(request.public_digest),
        public_tokens(std::move(request.public_tokens)),
        first_position(request.known ? request.known->tokens : 0),
        keys(std::move(set)),
        place(std::move(request.place)),
        decoder(std::move(engine), std::move(request.known)),
        position(first_position) {}

  const std::string handle;
  const std::string request_id;  // of the request that made it; may be empty
  const Digest public_digest;    // of its public context; zero without
  const std::vector<std::int32_t> public_tokens;
  const int first_position;  // of an encrypted token
  const std::shared_ptr<KeySet> keys;
  const Charge place;
  std::atomic<bool> removed{false};  // no longer in the store
  LastUse last_use;
  runtime::DecoderSession decoder;  // of the lease's holder
  std::atomic<int> position;
  std::atomic<size_t> state_bytes{0};  // of the decoder, after its last step

  std::mutex mutex;  // guards what follows
  bool leased = false;
  std::condition_variable returned;
  runtime::LatencyTable latency;             // of all steps
  std::unique_ptr<const StoredPart> stored;  // last: ends before `removed`
};

// The right to step a session; one at a time. While it is held, neither the session nor its keys
// expire.
class SessionLease {
 public:
  // Waits at most `seconds` for the step under way. Errors: kUnavailable (it is still under way, or
  // the client has left), kNotFound (the session has ended).
  static Result<SessionLease> Acquire(std::shared_ptr<Session> session, Exchange& exchange,
                                      double seconds);
  SessionLease(SessionLease&&) noexcept = default;
  SessionLease& operator=(SessionLease&&) = delete;
  ~SessionLease() { Return(); }
  Session& session() { return *session_; }
  // Before the last bytes of a reply: who has them may step again.
  void Return();

 private:
  SessionLease(std::shared_ptr<Session> session, std::weak_ptr<const void> connection);

  std::shared_ptr<Session> session_;
  std::shared_ptr<KeySet> pin_;
  std::weak_ptr<const void> connection_;
};

class SessionStore {
 public:
  explicit SessionStore(const ServiceLimits& limits) : limits_(limits) {}

  // A new session; with a request_id of before, the session of before. When all places are taken,
  // an idle session gives up its own (ServiceLimits), or the client with the most sessions loses
  // its longest idle one. Null where the member's quota has no place, though its idle sessions have
  // given up theirs. Errors: kResource (sessions held, limit), kUnavailable (the keys are not
  // complete), kNotFound (they are removed), kMismatch (the session of before has another public
  // context).
  Result<std::shared_ptr<Session>> Create(const std::shared_ptr<KeySet>& keys,
                                          SessionRequest request,
                                          std::weak_ptr<const void> connection);
  // One of before, as it was; its keys are complete. Errors: kResource, as Create's.
  Status Restore(const std::shared_ptr<Session>& session);
  Result<std::shared_ptr<Session>> Find(const std::string& handle);  // kNotFound
  Status Remove(const std::string& handle);
  void RemoveOfKeys(const KeySet& keys);
  void RemoveExpired();
  // Adds the encrypted caches; returns the number of sessions.
  size_t Report(MemoryReport& report);

 private:
  using Sessions = std::map<std::string, std::shared_ptr<Session>>;

  // These require mutex_.
  Status MakeRoom(const KeySet& asking);
  // The owner's longest idle session gives up its place; false where none may.
  bool YieldOf(const Usage& owner);
  bool MayYield(Session& session) const;
  size_t CountOf(const KeySet& keys) const;
  void EraseIf(const std::function<bool(Session&)>& condition);

  const ServiceLimits limits_;
  std::mutex mutex_;
  Sessions sessions_;  // guarded by mutex_
};

}  // namespace polyveil::serve
