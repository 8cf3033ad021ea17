// Keys and sessions on a server's disk: what a restart goes on with (docs/formats/server-state.md).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "base/result.h"
#include "wire/bytes.h"

namespace polyveil::serve {

// What a folder says of one set of keys; the bytes of its stream lie beside it.
struct StoredKeys {
  std::string handle, key_id, request_id, account;
  u64 total_bytes = 0, chunk_bytes = 0;
};

struct StoredSession {
  std::string handle, keys, request_id;
  std::vector<std::int32_t> public_tokens;
};

// A text that runs without its client (submission.h).
struct StoredSubmission {
  std::string handle, keys, key_id, request_id, account;
  int prompt_tokens = 0;  // encrypted ones
  int new_tokens = 0;     // that the server chooses
  double temperature = 0;
  std::string seed;  // of the noise; hexadecimal
  std::vector<std::int32_t> public_tokens;
};

// A folder that goes with its owner: when that ends after `removed` was set, the folder does too.
class StoredPart {
 public:
  StoredPart(std::string folder, const std::atomic<bool>& removed)
      : folder_(std::move(folder)), removed_(removed) {}
  StoredPart(const StoredPart&) = delete;
  ~StoredPart();

 private:
  const std::string folder_;
  const std::atomic<bool>& removed_;
};

class StateFolder {
 public:
  // Makes the folder (mode 0700) where it is missing and locks it. Errors: kIo, kUnavailable
  // (another server uses it), kSecurity (others may read it).
  static Result<std::unique_ptr<StateFolder>> Open(const std::string& path);

  // Every write is on the disk when it returns. Errors: kIo, the path and the reason.
  Status AddKeys(const StoredKeys& keys);
  Status WriteChunk(const StoredKeys& keys, u64 index, wire::ByteView bytes);
  Status AddSession(const StoredSession& session);
  Status AddSubmission(const StoredSubmission& submission);
  // The state at a position, of which there is one file each. folder: a session's or a
  // submission's, here and below.
  Status WriteState(const std::string& folder, int position, wire::ByteView bytes);
  bool HasState(const std::string& folder, int position) const;
  // All states but those of the two positions.
  void KeepStates(const std::string& folder, int one, int other);
  // Other files there, by their names.
  Status WritePart(const std::string& folder, const std::string& name, wire::ByteView bytes);
  Result<wire::Bytes> ReadPart(const std::string& folder, const std::string& name) const;
  bool HasPart(const std::string& folder, const std::string& name) const;
  void RemovePart(const std::string& folder, const std::string& name) const;

  // Their age begins anew: they are in use.
  void TouchKeys(const std::string& handle) const;
  // What is there, nothing older than max_age_seconds; what cannot be read is removed. used: keys
  // of any age.
  std::vector<StoredKeys> ListKeys(double max_age_seconds, const std::set<std::string>& used = {});
  std::vector<StoredSession> ListSessions(double max_age_seconds);
  std::vector<StoredSubmission> ListSubmissions(double max_age_seconds);
  u64 CountChunks(const StoredKeys& keys) const;  // whole ones
  // The whole chunks of the keys' stream, in order; their number. Errors: kIo, those of `take`.
  Result<u64> ReadChunks(const StoredKeys& keys, const std::function<Status(wire::ByteView)>& take);
  // Positions with a state, the last first.
  std::vector<int> Positions(const std::string& folder) const;
  Result<wire::Bytes> ReadState(const std::string& folder, int position) const;

  std::string KeysFolder(const std::string& handle) const { return path_ + "/keys/" + handle; }
  std::string SessionFolder(const std::string& handle) const {
    return path_ + "/sessions/" + handle;
  }
  std::string SubmissionFolder(const std::string& handle) const {
    return path_ + "/jobs/" + handle;
  }
  void Remove(const std::string& folder) const;

 private:
  StateFolder(std::string path, int lock) : path_(std::move(path)), lock_{lock} {}

  const std::string path_;
  const Descriptor lock_;
};

}  // namespace polyveil::serve
