// Writes keys and sessions to a folder as they come, and brings them back after a restart.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "compile/compiled_decoder.h"
#include "serve/server/admission.h"
#include "serve/server/key_preparation.h"
#include "serve/server/key_store.h"
#include "serve/server/public_contexts.h"
#include "serve/server/session_store.h"
#include "serve/server/state_folder.h"
#include "serve/server/submission_store.h"

namespace polyveil::serve {

// What a service consists of, as far as the keeper asks it; all of it outlives the keeper.
struct KeptParts {
  SharedModel shared;
  std::string tensors_sha256;
  Admission& admission;
  PublicContexts& public_contexts;
  SessionStore& sessions;
  KeyStore& keys;
  ComputeQueue& queue;
  SubmissionStore* submissions;  // null where no tokens are chosen
};

class Keeper {
 public:
  // Begins to restore what the folder has: keys that are ready, uploads that go on, sessions.
  // Nothing older than limits' idle times.
  Keeper(StateFolder& folder, const KeptParts& parts, const ServiceLimits& limits);
  ~Keeper();  // ends the restoring

  // Each is on the disk when it returns. Errors: kIo.
  Status Begun(KeySet& set);
  Status Uploaded(KeySet& set, u64 index, wire::ByteView bytes);
  Status Created(Session& session);
  Status Stepped(Session& session);  // requires the lease

  // Whether this name is one that is still to be restored.
  bool Restoring(const std::string& handle) const;
  bool done() const { return done_; }

 private:
  void RestoreAll(const ServiceLimits& limits);
  // keys: of those alone; null: of all that are left.
  void RestoreSubmissions(const std::vector<StoredSubmission>& all, const std::string* keys);
  Status RestoreSubmission(const StoredSubmission& stored);
  Status RestoreKeys(const StoredKeys& stored);
  Status RestoreSession(const StoredSession& stored);
  Result<PublicContexts::Context> RestorePublic(const std::vector<std::int32_t>& tokens,
                                                const KeySet& set);
  Result<runtime::DecoderSession::State> ReadState(const StoredSession& stored, const KeySet& set,
                                                   int position) const;
  Status WriteState(const Session& session, int position, std::span<const ckks::Ciphertext> values);
  wire::Binding BindingOf(const KeySet& set) const;
  // False when the server ends before the job.
  bool WaitFor(Job& job) const;
  void Done(const std::string& handle);

  StateFolder& folder_;
  const KeptParts parts_;
  mutable std::mutex mutex_;
  std::set<std::string> waiting_;  // names to be restored; guarded by mutex_
  std::atomic<bool> stopping_{false}, listed_{false}, done_{false};
  std::thread thread_;
};

}  // namespace polyveil::serve
