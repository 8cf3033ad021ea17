// Texts that run without their clients, and those that wait to be collected.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/server/service_limits.h"
#include "serve/server/submission.h"

namespace polyveil::serve {

class SubmissionStore {
 public:
  using Context = std::shared_ptr<const model::PublicContext>;

  SubmissionStore(SubmissionParts parts, const ServiceLimits& limits)
      : parts_(std::move(parts)), limits_(limits) {}

  // A new text, on the disk before it is told; with a request_id of before, the text of before.
  // asked: without handle and account. Null where the member's quota of sessions has no place,
  // though what has failed or was collected gives way.
  // Errors: kUnavailable (the keys are not complete), kNotFound (they are removed), kOutOfRange
  // (tokens above the context, a temperature above what the choice is made for; both values),
  // kResource (texts held, limit), kIo.
  Result<std::shared_ptr<Submission>> Create(StoredSubmission asked,
                                             const std::shared_ptr<KeySet>& keys, Context known,
                                             const Member& member);
  // One of before, by its folder. keys: null where they or the context are not here, as `missing`
  // says; a text that is not over then fails.
  void Restore(StoredSubmission stored, std::shared_ptr<KeySet> keys, Context known,
               const Status& missing);
  // Errors: kNotFound, for texts of another account too.
  Result<std::shared_ptr<Submission>> Find(const std::string& handle, const Usage& owner) const;
  Status Remove(const std::string& handle);
  void RemoveExpired();
  size_t size() const;

 private:
  Status Check(const StoredSubmission& asked) const;
  bool Expired(const Submission& text) const;
  // Requires mutex_. Whether one has given way, to end with `gone`.
  bool Yield(const Usage* owner, std::vector<std::shared_ptr<Submission>>& gone);

  const SubmissionParts parts_;
  const ServiceLimits limits_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Submission>> texts_;  // guarded by mutex_
};

}  // namespace polyveil::serve
