// Evaluation keys that clients have uploaded, or are uploading.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "compile/compiled_program.h"
#include "serve/server/key_set.h"
#include "serve/server/service_limits.h"
#include "serve/server/session_store.h"

namespace polyveil::serve {

// How a set of keys is kept: those that are expanded, and the memory of all.
struct KeyAllotment {
  ckks::KeyRequest expanded;
  u64 bytes = 0;
};
// With `held_bytes` of other sets' keys in memory.
KeyAllotment AllotKeys(const compile::CompiledProgram& model, const ServiceLimits& limits,
                       u64 held_bytes);

// What asks for an upload.
struct UploadRequest {
  Digest key_id{};
  u64 total_bytes = 0;
  std::string request_id;  // the same again: the same upload again; may be empty
  Member member{};
};

class KeyStore {
 public:
  // `sessions` end with their keys.
  KeyStore(std::shared_ptr<const compile::CompiledProgram> model, const ServiceLimits& limits,
           SessionStore& sessions);

  u64 stream_bytes() const { return stream_bytes_; }
  u64 chunk_bytes() const { return limits_.chunk_bytes; }
  // How the next set would be kept.
  KeyAllotment NextAllotment() const;

  // Starts an upload when there is room for it; the room is taken by the first chunk, so that
  // asking alone takes none. Null where the member's quota has no place for a set, though its
  // idle ones have given up theirs. Errors: kMismatch (total bytes), kResource (sets, memory; both
  // values).
  Result<std::shared_ptr<KeySet>> Begin(const UploadRequest& request,
                                        std::weak_ptr<const void> connection);
  // An upload of before under its name, once it is started with the room that it takes. Errors:
  // kResource, kMismatch (total bytes).
  Result<std::shared_ptr<KeySet>> Restore(UploadRequest request, const std::string& handle,
                                          bool started);
  // Looking is no use: it keeps nothing alive. Errors: kNotFound.
  Result<std::shared_ptr<KeySet>> Find(const std::string& handle) const;
  Status Remove(const std::string& handle);
  // The owner's longest idle set gives up its place; false where none may.
  bool YieldOf(const Usage& owner);
  void RemoveExpired();
  // Adds what complete sets hold; returns the number of all sets.
  size_t Report(MemoryReport& report) const;

  // Chunk `index`, all of chunk_bytes() but the last. A chunk that is already there is accepted
  // again and ignored. Errors: kMismatch (index, size), kCorrupt (checksum: send it again),
  // kResource (as Begin), kNotFound (removed), and the stream's, which end the upload.
  // received: the owner's, for these bytes. store: puts a new chunk on the disk, before it counts.
  Status AddChunk(KeySet& set, u64 index, wire::ByteView bytes, std::string_view checksum,
                  std::weak_ptr<const void> connection, Charge received = {},
                  const std::function<Status()>& store = {});

 private:
  using Sets = std::map<std::string, std::shared_ptr<KeySet>>;

  Status CheckChunk(const KeySet& set, u64 index, wire::ByteView bytes,
                    std::string_view checksum) const;
  // Claims the set's room, at other idle sets' cost where there is no other. Requires set.mutex.
  Status Start(KeySet& set);
  // Whether a set fits once `bytes` and `sets` are given back. The rest requires mutex_.
  Status CheckRoom(u64 bytes, size_t sets) const;
  Status MakeRoom(const KeySet& asking);
  Sets::iterator LongestIdle(const std::function<bool(KeySet&)>& among);
  bool YieldOfLocked(const Usage& owner);
  bool MayYield(KeySet& set) const;
  Sets::iterator Erase(Sets::iterator set);
  void LimitUnstarted();

  const std::shared_ptr<const compile::CompiledProgram> model_;
  const ServiceLimits limits_;
  SessionStore& sessions_;
  u64 stream_bytes_ = 0;
  const std::shared_ptr<KeyBudget> budget_ = std::make_shared<KeyBudget>();
  // Taken while a set's mutex is held; a set's is only tried while this one is.
  mutable std::mutex mutex_;
  Sets sets_;  // guarded by mutex_
};

}  // namespace polyveil::serve
