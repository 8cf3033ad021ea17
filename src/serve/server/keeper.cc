#include "serve/server/keeper.h"

#include <algorithm>
#include <set>
#include <string>

#include "serve/protocol.h"
#include "serve/server/key_preparation.h"
#include "wire/session_state.h"

namespace polyveil::serve {
namespace {

StoredKeys Describe(const KeySet& set, const KeyStore& keys) {
  return {set.handle,           ToHex(set.key_id),   set.request_id,
          set.owner->account(), keys.stream_bytes(), keys.chunk_bytes()};
}

}  // namespace

Keeper::Keeper(StateFolder& folder, const KeptParts& parts, const ServiceLimits& limits)
    : folder_(folder), parts_(parts) {
  thread_ = std::thread([this, limits] { RestoreAll(limits); });
  // Until the names are known no request is answered.
  while (!listed_) std::this_thread::yield();
}

Keeper::~Keeper() {
  stopping_ = true;
  thread_.join();
}

wire::Binding Keeper::BindingOf(const KeySet& set) const {
  return {parts_.shared.model->params()->digest(),
          DigestFromHex(parts_.shared.model->digest()).value(), set.key_id};
}

Status Keeper::Begun(KeySet& set) {
  const std::lock_guard lock(set.mutex);
  if (set.stored) return {};
  PV_RETURN_IF_ERROR(folder_.AddKeys(Describe(set, parts_.keys)));
  set.stored = std::make_unique<const StoredPart>(folder_.KeysFolder(set.handle), set.removed);
  return {};
}

Status Keeper::Uploaded(KeySet& set, u64 index, wire::ByteView bytes) {
  return folder_.WriteChunk(Describe(set, parts_.keys), index, bytes);
}

Status Keeper::Created(Session& session) {
  const std::lock_guard lock(session.mutex);
  if (session.stored) return {};
  PV_RETURN_IF_ERROR(folder_.AddSession(
      {session.handle, session.keys->handle, session.request_id, session.public_tokens}));
  session.stored =
      std::make_unique<const StoredPart>(folder_.SessionFolder(session.handle), session.removed);
  folder_.TouchKeys(session.keys->handle);
  return {};
}

Status Keeper::WriteState(const Session& session, int position,
                          std::span<const ckks::Ciphertext> values) {
  return folder_.WriteState(
      folder_.SessionFolder(session.handle), position,
      wire::FormatSessionState(*parts_.shared.model->params(), BindingOf(*session.keys),
                               static_cast<u32>(position), values));
}

// The state before the step is there already, but for the first step's.
Status Keeper::Stepped(Session& session) {
  const runtime::DecoderSession& decoder = session.decoder;
  const int now = decoder.position(), before = decoder.undo_position();
  const std::string folder = folder_.SessionFolder(session.handle);
  if (before >= 0 && !folder_.HasState(folder, before))
    PV_RETURN_IF_ERROR(WriteState(session, before, decoder.undo_values()));
  PV_RETURN_IF_ERROR(WriteState(session, now, decoder.values()));
  folder_.KeepStates(folder, now, before);
  folder_.TouchKeys(session.keys->handle);
  return {};
}

bool Keeper::Restoring(const std::string& handle) const {
  const std::lock_guard lock(mutex_);
  return waiting_.contains(handle);
}

void Keeper::Done(const std::string& handle) {
  const std::lock_guard lock(mutex_);
  waiting_.erase(handle);
}

bool Keeper::WaitFor(Job& job) const {
  while (!job.WaitFor(kPollSeconds))
    if (stopping_) job.Cancel();
  return !stopping_;
}

// What cannot be restored is removed: its client is told that it is not here, and makes it anew.
void Keeper::RestoreAll(const ServiceLimits& limits) {
  const auto sessions = folder_.ListSessions(limits.session_idle_seconds);
  std::vector<StoredSubmission> jobs;
  if (parts_.submissions) jobs = folder_.ListSubmissions(limits.collect_seconds);
  std::set<std::string> used;  // keys, however long ago they came
  for (const StoredSession& stored : sessions) used.insert(stored.keys);
  for (const StoredSubmission& stored : jobs)
    if (!Submission::IsOver(folder_, stored.handle)) used.insert(stored.keys);
  const auto keys = folder_.ListKeys(limits.key_idle_seconds, used);
  {
    const std::lock_guard lock(mutex_);
    for (const StoredKeys& stored : keys) waiting_.insert(stored.handle);
    for (const StoredSession& stored : sessions) waiting_.insert(stored.handle);
    for (const StoredSubmission& stored : jobs) waiting_.insert(stored.handle);
  }
  listed_ = true;
  for (const StoredKeys& stored : keys) {
    if (stopping_) return;
    if (!RestoreKeys(stored).ok() && !stopping_) folder_.Remove(folder_.KeysFolder(stored.handle));
    Done(stored.handle);
    for (const StoredSession& session : sessions) {
      if (session.keys != stored.handle || stopping_) continue;
      if (!RestoreSession(session).ok() && !stopping_)
        folder_.Remove(folder_.SessionFolder(session.handle));
      Done(session.handle);
    }
    RestoreSubmissions(jobs, &stored.handle);
  }
  RestoreSubmissions(jobs, nullptr);
  for (const StoredSession& session : sessions) {
    if (!Restoring(session.handle) || stopping_) continue;
    folder_.Remove(folder_.SessionFolder(session.handle));  // its keys are not here
    Done(session.handle);
  }
  done_ = true;
}

// Right behind their keys, which nobody holds before; at the end those whose keys are not here.
void Keeper::RestoreSubmissions(const std::vector<StoredSubmission>& all, const std::string* keys) {
  for (const StoredSubmission& stored : all) {
    if (stopping_) return;
    if (!Restoring(stored.handle) || (keys && stored.keys != *keys)) continue;
    const Status status = RestoreSubmission(stored);
    if (!status.ok() && !stopping_) parts_.submissions->Restore(stored, nullptr, nullptr, status);
    Done(stored.handle);
  }
}

Status Keeper::RestoreSubmission(const StoredSubmission& stored) {
  std::shared_ptr<KeySet> keys;
  PublicContexts::Context known;
  if (const auto found = parts_.keys.Find(stored.keys); found.ok()) {
    const std::lock_guard lock((*found)->mutex);
    if ((*found)->choice) keys = *found;
  }
  if (!keys) return MakeError(ErrorCode::kNotFound, "its keys '{}' are not here", stored.keys);
  if (!stored.public_tokens.empty()) {
    PV_ASSIGN_OR_RETURN(known, RestorePublic(stored.public_tokens, *keys));
  }
  parts_.submissions->Restore(stored, std::move(keys), std::move(known), {});
  return {};
}

Status Keeper::RestoreKeys(const StoredKeys& stored) {
  const auto member = parts_.admission.Named(stored.account);
  if (!member || stored.chunk_bytes != parts_.keys.chunk_bytes())
    return MakeError(ErrorCode::kMismatch, "stored keys of account '{}', chunks of {}",
                     stored.account, stored.chunk_bytes);
  PV_ASSIGN_OR_RETURN(const Digest key_id, DigestFromHex(stored.key_id));
  PV_ASSIGN_OR_RETURN(const auto set,
                      parts_.keys.Restore({key_id, stored.total_bytes, stored.request_id, *member},
                                          stored.handle, folder_.CountChunks(stored) > 0));
  const auto pin = Pin(set);
  Status status;
  {
    const std::lock_guard lock(set->mutex);
    set->stored = std::make_unique<const StoredPart>(folder_.KeysFolder(set->handle), set->removed);
    const auto chunks = folder_.ReadChunks(stored, [&](wire::ByteView bytes) -> Status {
      if (stopping_) return MakeError(ErrorCode::kCancelled, "the server ends");
      auto received = Charge::Try(member->usage, &Usage::key_bytes, bytes.size(), std::nullopt);
      set->received.Merge(std::move(*received));
      return set->reader->Push(bytes);
    });
    status = chunks.ok() ? Status() : Status(chunks.error());
    if (chunks.ok()) set->next_chunk = *chunks;
    // Its client goes on with it.
    if (chunks.ok() && (*chunks == 0 || !set->reader->complete())) return {};
  }
  if (status.ok()) {
    PV_ASSIGN_OR_RETURN(const auto job, PrepareKeys(parts_.shared, set, parts_.queue));
    if (!WaitFor(*job)) return MakeError(ErrorCode::kCancelled, "the server ends");
    status = job->status();
  }
  if (!status.ok() && !stopping_) (void)parts_.keys.Remove(stored.handle).ok();
  return status;
}

Result<runtime::DecoderSession::State> Keeper::ReadState(const StoredSession& stored,
                                                         const KeySet& set, int position) const {
  PV_ASSIGN_OR_RETURN(const wire::Bytes bytes,
                      folder_.ReadState(folder_.SessionFolder(stored.handle), position));
  runtime::DecoderSession::State state;
  state.position = position;
  PV_ASSIGN_OR_RETURN(state.values, wire::ParseSessionState(
                                        *parts_.shared.model->params(), bytes, BindingOf(set),
                                        static_cast<u32>(position),
                                        static_cast<size_t>(parts_.shared.model->state_count())));
  return state;
}

Result<PublicContexts::Context> Keeper::RestorePublic(const std::vector<std::int32_t>& tokens,
                                                      const KeySet& set) {
  PV_ASSIGN_OR_RETURN(const auto entry,
                      parts_.public_contexts.Ask(
                          tokens, PublicDigest(parts_.tensors_sha256, tokens), parts_.queue, &set));
  if (!WaitFor(*entry->job)) return MakeError(ErrorCode::kCancelled, "the server ends");
  return parts_.public_contexts.Finish(entry);
}

Status Keeper::RestoreSession(const StoredSession& stored) {
  PV_ASSIGN_OR_RETURN(const auto set, parts_.keys.Find(stored.keys));
  std::shared_ptr<const runtime::Engine> engine;
  {
    const std::lock_guard lock(set->mutex);
    engine = set->engine;
  }
  const auto member = parts_.admission.Named(set->owner->account());
  if (!engine || !member)
    return MakeError(ErrorCode::kNotFound, "the keys of session '{}'", stored.handle);
  SessionRequest request;
  request.request_id = stored.request_id;
  request.member = *member;
  auto place = Charge::Try(member->usage, &Usage::sessions, 1, std::nullopt);
  request.place = std::move(*place);
  if (!stored.public_tokens.empty()) {
    request.public_tokens = stored.public_tokens;
    request.public_digest = PublicDigest(parts_.tensors_sha256, stored.public_tokens);
    PV_ASSIGN_OR_RETURN(request.known, RestorePublic(stored.public_tokens, *set));
  }
  const auto session = std::make_shared<Session>(stored.handle, std::move(request), set, engine);
  const std::vector<int> positions = folder_.Positions(folder_.SessionFolder(stored.handle));
  if (!positions.empty()) {
    PV_ASSIGN_OR_RETURN(auto now, ReadState(stored, *set, positions[0]));
    std::optional<runtime::DecoderSession::State> before;
    if (positions.size() > 1) {
      PV_ASSIGN_OR_RETURN(before, ReadState(stored, *set, positions[1]));
    }
    session->decoder.Restore(std::move(now), std::move(before));
    session->position = session->decoder.position();
    session->state_bytes = session->decoder.state_bytes();
  }
  PV_RETURN_IF_ERROR(parts_.sessions.Restore(session));
  session->stored =
      std::make_unique<const StoredPart>(folder_.SessionFolder(stored.handle), session->removed);
  return {};
}

}  // namespace polyveil::serve
