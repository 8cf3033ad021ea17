#include "serve/server/public_contexts.h"

#include <algorithm>

namespace polyveil::serve {
namespace {

bool Finished(const PublicContexts::Entry& entry) { return entry.job->WaitFor(0); }

}  // namespace

std::shared_ptr<PublicContexts::Entry> PublicContexts::Find(const Digest& digest) {
  const auto found = std::ranges::find_if(
      entries_, [&](const std::shared_ptr<Entry>& entry) { return entry->digest == digest; });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front();
}

Status PublicContexts::MakeRoom(u64 bytes) {
  u64 kept = 0;
  for (const auto& entry : entries_) kept += entry->bytes;
  for (auto it = entries_.end(); kept + bytes > budget_bytes_ && it != entries_.begin();) {
    --it;
    // What a session still holds, or a client waits for, stays in memory anyway.
    const bool idle = it->use_count() == 1 && Finished(**it) && (*it)->context.use_count() <= 1;
    if (!idle) continue;
    kept -= (*it)->bytes;
    it = entries_.erase(it);
  }
  if (kept + bytes <= budget_bytes_) return {};
  return MakeError(ErrorCode::kResource,
                   "public contexts: one of {} bytes beside {} in use, the limit is {}", bytes,
                   kept, budget_bytes_);
}

Result<std::shared_ptr<PublicContexts::Entry>> PublicContexts::Ask(
    std::span<const std::int32_t> tokens, const Digest& digest, ComputeQueue& queue,
    const void* owner) {
  if (tokens.empty()) return MakeError(ErrorCode::kInvalidArgument, "public.tokens is empty");
  PV_RETURN_IF_ERROR(model::CheckPublicTokens(static_cast<int>(tokens.size()), decoder_->context));
  PV_ASSIGN_OR_RETURN(auto values, embedding_->EmbedAll(tokens));
  const std::lock_guard lock(mutex_);
  if (auto known = Find(digest)) return known;
  auto entry = std::make_shared<Entry>();
  entry->digest = digest;
  entry->bytes = model::PublicContextBytes(*decoder_, static_cast<int>(tokens.size()));
  PV_RETURN_IF_ERROR(MakeRoom(entry->bytes));
  const auto run = [decoder = decoder_, entry = entry.get(),
                    values = std::move(values)](const std::atomic<bool>& cancel) -> Status {
    PV_ASSIGN_OR_RETURN(entry->context, model::ComputePublicContext(*decoder, values, &cancel));
    return {};
  };
  PV_ASSIGN_OR_RETURN(entry->job, queue.Submit(owner, run));
  entries_.push_front(entry);
  return entry;
}

Result<PublicContexts::Context> PublicContexts::Finish(const std::shared_ptr<Entry>& entry) {
  if (entry->job->status().ok()) return entry->context;
  const std::lock_guard lock(mutex_);
  std::erase(entries_, entry);
  return entry->job->status().error();
}

void PublicContexts::Report(MemoryReport& report) {
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries_) report.Add("public contexts", entry->bytes, /*pooled=*/false);
}

}  // namespace polyveil::serve
