// Evaluation keys that clients have uploaded, or are uploading.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/system.h"
#include "compile/compiled_model.h"
#include "runtime/decoder_session.h"
#include "serve/server/service_limits.h"
#include "wire/key_stream.h"

namespace polyveil::serve {

// A random 128-bit name, hexadecimal: who knows it may use what it names.
std::string NewHandle();

// One client's keys. Its own mutex: a slow upload blocks nobody else.
struct KeySet {
  KeySet(std::string name, wire::KeyStreamReader stream, u64 memory)
      : handle(std::move(name)), bytes(memory), reader(std::move(stream)) {}

  const std::string handle;
  const u64 bytes;  // that the keys take, or will take, in memory
  std::mutex mutex;
  wire::KeyStreamReader reader;                   // guarded by mutex
  u64 next_chunk = 0;                             // guarded by mutex
  bool preparing = false;                         // guarded by mutex
  std::shared_ptr<const runtime::Engine> engine;  // guarded by mutex; null until complete
  Digest key_id{};
  std::atomic<double> last_used{0};
};

// How a set of keys is kept: those that are expanded, and the memory of all.
struct KeyAllotment {
  ckks::KeyRequest expanded;
  u64 bytes = 0;
};
// With `held_bytes` of other sets' keys in memory.
KeyAllotment AllotKeys(const compile::CompiledModel& model, const ServiceLimits& limits,
                       u64 held_bytes);

class KeyStore {
 public:
  KeyStore(std::shared_ptr<const compile::CompiledModel> model, const ServiceLimits& limits);

  u64 stream_bytes() const { return stream_bytes_; }
  // How the next set would be kept.
  KeyAllotment NextAllotment();
  u64 chunk_bytes() const { return limits_.chunk_bytes; }

  // Starts an upload. Errors: kMismatch (total bytes), kResource (sets, memory; both values).
  Result<std::shared_ptr<KeySet>> Begin(const Digest& key_id, u64 total_bytes);
  // Errors: kNotFound.
  Result<std::shared_ptr<KeySet>> Find(const std::string& handle);
  Status Remove(const std::string& handle);
  // Adds what complete sets hold; returns the number of all sets.
  size_t Report(MemoryReport& report);

  // Chunk `index`, all of chunk_bytes() but the last. A chunk that is already there is accepted
  // again and ignored. Errors: kMismatch (index, size), kCorrupt (checksum: send it again), and the
  // stream's, which end the upload.
  Status AddChunk(KeySet& set, u64 index, wire::ByteView bytes, std::string_view checksum);
  // The received keys of a complete upload, once. Errors: kMismatch (bytes received), kUnavailable.
  Result<std::shared_ptr<const ckks::EvaluationKeys>> TakeKeys(KeySet& set);

 private:
  void RemoveExpired();
  u64 HeldBytes() const;  // requires mutex_

  const std::shared_ptr<const compile::CompiledModel> model_;
  const ServiceLimits limits_;
  u64 stream_bytes_ = 0;
  Timer clock_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<KeySet>> sets_;  // guarded by mutex_
};

}  // namespace polyveil::serve
