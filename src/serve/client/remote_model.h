// The server's interface as typed calls; docs/formats/http.md.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ckks/ciphertext.h"
#include "ckks/parameters.h"
#include "serve/client/http_client.h"
#include "serve/protocol.h"
#include "wire/ciphertext_format.h"

namespace polyveil::serve {

struct RemoteProgress {
  double done = 0;  // of the step, in [0, 1]
  std::string operation;
  int queued = 0;  // steps of others before this one
};
using RemoteProgressCallback = std::function<void(const RemoteProgress&)>;

struct RemoteStep {
  ckks::Ciphertext result;
  runtime::LatencyTable latency;  // the server's
  u64 server_peak_rss_bytes = 0;
};

class RemoteModel {
 public:
  // Asks for the model's information. The parameters are this program's own set of that name.
  // Errors: kUnavailable, kCorrupt, kMismatch (digests), kSecurity (a set for tests, unless
  // allow_insecure).
  static Result<std::unique_ptr<RemoteModel>> Connect(const Url& url, bool allow_insecure,
                                                      const std::atomic<bool>* cancel = nullptr);

  const ModelInfo& info() const { return info_; }
  const ckks::ParametersPtr& params() const { return params_; }
  HttpClient& http() { return http_; }

  // Sessions: the server's name for one. Errors of all calls: the server's, and the transport's.
  Result<std::string> CreateSession(const std::string& keys);
  Status RemoveSession(const std::string& session);
  Status RemoveKeys(const std::string& keys);
  // Token up, result down, progress while it runs. Refuses results of another key, model, position,
  // level or scale.
  Result<RemoteStep> Step(const std::string& session, const Digest& key_id, u32 position,
                          const ckks::SeededCiphertext& token,
                          const RemoteProgressCallback& on_progress);
  // What takes the server's memory.
  Result<std::vector<MemoryReport::Entry>> Memory();
  Result<runtime::LatencyTable> Latency(const std::string& session);

  Result<nlohmann::json> Call(const char* method, const std::string& path, std::string_view body,
                              double reply_seconds = 60);

 private:
  Result<nlohmann::json> CallWith(ClientRequest request);
  // After a cancellation too, but not for long.
  Status Delete(const std::string& path);
  RemoteModel(const Url& url, const std::atomic<bool>* cancel) : http_(url, cancel) {}
  Status Adopt(ModelInfo info, bool allow_insecure);

  HttpClient http_;
  ModelInfo info_;
  ckks::ParametersPtr params_;
  Digest program_digest_{};
};

// Sends a key stream in chunks as it comes: memory stays at one chunk.
class KeyUpload {
 public:
  static Result<KeyUpload> Begin(RemoteModel& remote, const Digest& key_id);
  // The next bytes of the stream; a wire::ByteSink. A chunk damaged on its way is sent again.
  Status Write(wire::ByteView bytes);
  // Sends what is left, waits until the server has prepared the keys. Returns the server's name.
  Result<std::string> Finish();
  const std::string& handle() const { return handle_; }

 private:
  explicit KeyUpload(RemoteModel& remote) : remote_(&remote) {}
  Status SendChunk();

  RemoteModel* remote_;
  std::string handle_;
  wire::Bytes pending_;
  u64 next_chunk_ = 0;
};

}  // namespace polyveil::serve
