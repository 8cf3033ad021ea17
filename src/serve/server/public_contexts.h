// Public contexts that clients share: computed once, kept within a budget of memory.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/digest.h"
#include "base/memory_report.h"
#include "model/formats/token_embedding.h"
#include "model/public_context.h"
#include "serve/server/compute_queue.h"

namespace polyveil::serve {

class PublicContexts {
 public:
  using Context = std::shared_ptr<const model::PublicContext>;

  // embedding: null where the model came without the client's half; nothing is asked for then.
  // budget_bytes: of all contexts that are kept or that a session still holds.
  PublicContexts(std::shared_ptr<const model::Decoder> decoder,
                 std::shared_ptr<const model::TokenEmbedding> embedding, u64 budget_bytes)
      : decoder_(std::move(decoder)),
        embedding_(std::move(embedding)),
        budget_bytes_(budget_bytes) {}

  // A context on its way: ready once its job has finished.
  struct Entry {
    Digest digest;
    u64 bytes = 0;
    std::shared_ptr<Job> job;
    Context context;  // written by the job; read when it has finished
  };
  // The context of these tokens: the one that is kept or under way, or a new one on the queue. The
  // longest unused ones that no session holds make room. Errors: kInvalidArgument (no tokens),
  // kOutOfRange (a token, both values of a length), kResource (budget, both values), kUnavailable
  // (the queue is full).
  Result<std::shared_ptr<Entry>> Ask(std::span<const std::int32_t> tokens, const Digest& digest,
                                     ComputeQueue& queue, const void* owner);
  // Once its job has finished. One that failed is forgotten. Errors: those of the job.
  Result<Context> Finish(const std::shared_ptr<Entry>& entry);
  void Report(MemoryReport& report);

 private:
  // These require mutex_.
  std::shared_ptr<Entry> Find(const Digest& digest);
  Status MakeRoom(u64 bytes);

  const std::shared_ptr<const model::Decoder> decoder_;
  const std::shared_ptr<const model::TokenEmbedding> embedding_;
  const u64 budget_bytes_;
  std::mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_;  // guarded by mutex_; the last used first
};

}  // namespace polyveil::serve
