#include "serve/server/submission_store.h"

#include <utility>

#include "serve/server/session_store.h"

namespace polyveil::serve {
namespace {

Error JobNotHere(const std::string& handle) {
  return MakeError(ErrorCode::kNotFound, "job '{}' is not here", handle.substr(0, 64));
}

}  // namespace

Status SubmissionStore::Check(const StoredSubmission& asked) const {
  const int known = static_cast<int>(asked.public_tokens.size());
  const i64 tokens = i64{asked.prompt_tokens} + asked.new_tokens - 1;
  const int context = parts_.model->ContextBehind(known);
  if (asked.prompt_tokens < 1 || asked.new_tokens < 1 || known + tokens > context)
    return MakeError(ErrorCode::kOutOfRange,
                     "{} public tokens, {} encrypted ones and {} to choose: the context is {}",
                     known, asked.prompt_tokens, asked.new_tokens, context);
  const double most = parts_.model->choice()->choice().forms.temperature;
  if (asked.temperature > most)
    return MakeError(ErrorCode::kOutOfRange, "temperature {}: the choice was fitted up to {}",
                     asked.temperature, most);
  return {};
}

Result<std::shared_ptr<Submission>> SubmissionStore::Create(StoredSubmission asked,
                                                            const std::shared_ptr<KeySet>& keys,
                                                            Context known, const Member& member) {
  PV_RETURN_IF_ERROR(Check(asked));
  {
    const std::lock_guard lock(keys->mutex);
    if (!keys->choice)
      return MakeError(ErrorCode::kUnavailable, "keys '{}' are not complete", keys->handle);
  }
  std::vector<std::shared_ptr<Submission>> gone;  // ends outside of the lock
  const std::lock_guard lock(mutex_);
  if (keys->removed) return MakeError(ErrorCode::kNotFound, "keys '{}' are not here", keys->handle);
  for (const auto& [handle, text] : texts_) {
    const StoredSubmission& held = text->stored();
    if (!asked.request_id.empty() && held.request_id == asked.request_id &&
        held.keys == keys->handle)
      return text;
  }
  while (texts_.size() >= limits_.sessions && Yield(nullptr, gone)) {
  }
  const auto& most = member.account->quota.sessions;
  auto place = Charge::Try(member.usage, &Usage::sessions, 1, most);
  while (!place && Yield(member.usage.get(), gone)) {
    gone.clear();  // with what it held of the account
    place = Charge::Try(member.usage, &Usage::sessions, 1, most);
  }
  if (!place) return std::shared_ptr<Submission>();
  if (texts_.size() >= limits_.sessions)
    return MakeError(ErrorCode::kResource, "jobs: {} are held of at most {}", texts_.size(),
                     limits_.sessions);
  asked.handle = NewHandle();
  asked.keys = keys->handle;
  asked.key_id = ToHex(keys->key_id);
  asked.account = member.usage->account();
  PV_RETURN_IF_ERROR(parts_.folder.AddSubmission(asked));
  const auto text = std::make_shared<Submission>(std::move(asked), parts_, keys, std::move(known),
                                                 std::move(*place));
  texts_.emplace(text->stored().handle, text);
  return text;
}

// The one that was used least lately of those that give way, of `owner` or of all.
bool SubmissionStore::Yield(const Usage* owner, std::vector<std::shared_ptr<Submission>>& gone) {
  auto oldest = texts_.end();
  for (auto it = texts_.begin(); it != texts_.end(); ++it) {
    const Submission& text = *it->second;
    if (!text.gives_way() || (owner && text.stored().account != owner->account())) continue;
    if (oldest == texts_.end() ||
        text.last_use.IdleSeconds() > oldest->second->last_use.IdleSeconds())
      oldest = it;
  }
  if (oldest == texts_.end()) return false;
  oldest->second->Remove();
  gone.push_back(std::move(oldest->second));
  texts_.erase(oldest);
  return true;
}

void SubmissionStore::Restore(StoredSubmission stored, std::shared_ptr<KeySet> keys, Context known,
                              const Status& missing) {
  Charge place;
  if (const auto member = parts_.admission.Named(stored.account))
    place = std::move(*Charge::Try(member->usage, &Usage::sessions, 1, std::nullopt));
  const auto text = std::make_shared<Submission>(std::move(stored), parts_, std::move(keys),
                                                 std::move(known), std::move(place));
  text->Restore(missing);
  const std::lock_guard lock(mutex_);
  texts_.emplace(text->stored().handle, text);
}

Result<std::shared_ptr<Submission>> SubmissionStore::Find(const std::string& handle,
                                                          const Usage& owner) const {
  const std::lock_guard lock(mutex_);
  const auto found = texts_.find(handle);
  if (found == texts_.end() || found->second->stored().account != owner.account())
    return JobNotHere(handle);
  return found->second;
}

Status SubmissionStore::Remove(const std::string& handle) {
  std::shared_ptr<Submission> text;  // ends outside of the lock: a step may be under way
  {
    const std::lock_guard lock(mutex_);
    const auto found = texts_.find(handle);
    if (found == texts_.end()) return JobNotHere(handle);
    text = std::move(found->second);
    texts_.erase(found);
  }
  text->Remove();
  return {};
}

bool SubmissionStore::Expired(const Submission& text) const {
  const double idle = text.last_use.IdleSeconds();
  const SubmissionPhase phase = text.Report().phase;
  if (phase == SubmissionPhase::kReceiving) return idle > limits_.upload_idle_seconds;
  return phase != SubmissionPhase::kRunning && idle > limits_.collect_seconds;
}

void SubmissionStore::RemoveExpired() {
  std::vector<std::shared_ptr<Submission>> gone;
  const std::lock_guard lock(mutex_);
  std::erase_if(texts_, [&](const auto& entry) {
    if (!Expired(*entry.second)) return false;
    entry.second->Remove();
    gone.push_back(entry.second);
    return true;
  });
}

size_t SubmissionStore::size() const {
  const std::lock_guard lock(mutex_);
  return texts_.size();
}

}  // namespace polyveil::serve
