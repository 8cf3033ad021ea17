// The server's interface as typed calls; docs/formats/http.md.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "ckks/ciphertext.h"
#include "ckks/parameters.h"
#include "serve/client/backoff.h"
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
  std::vector<ckks::Ciphertext> results;  // one; of a prompt at once as many as went up
  runtime::LatencyTable latency;          // the server's
  u64 server_peak_rss_bytes = 0;
};

struct RemoteSession {
  std::string id;
  int context = 0;  // tokens that this text may have
  // Inputs of the public tokens outside the polynomials' intervals, and the first of the worst.
  u64 public_out_of_range = 0;
  std::string worst_site;
};

// What a client puts up with.
struct RemoteOptions {
  bool allow_insecure = false;             // parameters for tests
  u64 max_key_bytes = u64{8'000'000'000};  // of the evaluation keys that a server may ask for
  double max_step_seconds = 6 * 3600;      // for a step, the wait for others' included
  // Until a reply begins, and between its pieces; for a chunk of keys five times as long. A server
  // reports at least every five seconds while a step waits or runs.
  double reply_seconds = 60;
  double prepare_seconds = 900;               // for the server to make its keys ready
  double retry_seconds = 30;                  // how long a lost reply or connection is tried anew
  const std::atomic<bool>* cancel = nullptr;  // ends any call but clean-up (kCancelled)
  HttpAccess access = {};
};

class RemoteModel {
 public:
  // Asks for the model's information. The parameters are this program's own set of that name, and
  // what info() says of their security is computed from them. Errors: kUnavailable, kCorrupt,
  // kMismatch (digests), kSecurity (a set for tests, unless allow_insecure), kResource (a key
  // request above max_key_bytes: both are named).
  static Result<std::unique_ptr<RemoteModel>> Connect(const Url& url, const RemoteOptions& options);

  const ModelInfo& info() const { return info_; }
  const ckks::ParametersPtr& params() const { return params_; }
  HttpClient& http() { return http_; }
  // The last ciphertext that left: its size and first bytes.
  struct Sent {
    u64 bytes = 0;
    std::string begin;
  };
  const Sent& sent() const { return sent_; }
  // Hears of each step's messages as they travelled, once the answer is there.
  using Recorder = std::function<void(u32 position, wire::ByteView up, wire::ByteView down)>;
  void set_recorder(Recorder recorder) { recorder_ = std::move(recorder); }
  // Another one than the options'; between calls.
  void set_cancel(const std::atomic<bool>* cancel) {
    options_.cancel = cancel;
    http_.set_cancel(cancel);
  }

  // Sessions: the server's name for one. Errors of all calls: the server's, and the transport's.
  // What a lost reply leaves open is asked again (retry_seconds): every call may be repeated.
  Result<std::string> CreateSession(const std::string& keys);
  // The same behind public tokens, which are sent in the clear. Errors too: kOutOfRange for more
  // than the server takes (both values), kMismatch for a server that leaves them out.
  Result<RemoteSession> CreateSession(const std::string& keys,
                                      std::span<const std::int32_t> public_tokens);
  Status RemoveSession(const std::string& session);
  Status RemoveKeys(const std::string& keys);
  // Token up, result down, progress while it runs. Refuses results of another key, model, position,
  // level or scale.
  Result<RemoteStep> Step(const std::string& session, const Digest& key_id, u32 position,
                          const ckks::SeededCiphertext& token,
                          const RemoteProgressCallback& on_progress);
  // The same of a prompt's first tokens at once: one of info().prompts, at least as long. texts:
  // their tokens, of several independent ones that an encoder reads.
  Result<RemoteStep> ReadPrompt(const std::string& session, const Digest& key_id,
                                const PromptInfo& program, std::span<const int> texts,
                                std::span<const ckks::SeededCiphertext> packed,
                                const RemoteProgressCallback& on_progress);
  // What takes the server's memory.
  Result<std::vector<MemoryReport::Entry>> Memory();
  Result<runtime::LatencyTable> Latency(const std::string& session);

  // What messages about this key's texts are bound to.
  wire::Binding BindingOf(const Digest& key_id) const {
    return {params_->digest(), program_digest_, key_id};
  }
  // A server's name for something, of a reply: letters and digits. Errors: kCorrupt.
  static Result<std::string> NameFrom(const nlohmann::json& reply);
  // Names a request: repeated with the same name it makes nothing new.
  static std::string NewRequestId();
  ClientRequest NewRequest(const char* method, std::string path, std::string_view body = {}) const;
  // Of a few seconds, and not cut off by a cancellation.
  ClientRequest ShortRequest(const char* method, std::string path,
                             std::string_view body = {}) const;
  // One attempt at a call with a JSON reply, and attempts as NewBackoff has them. Errors: the
  // server's, the transport's.
  Result<nlohmann::json> Call(const ClientRequest& request);
  Result<nlohmann::json> CallRepeated(const ClientRequest& request);
  // The same with the reply's text as it is.
  Result<std::string> TextRepeated(const ClientRequest& request);
  // After a cancellation too, but not for long.
  Status Delete(const char* path, const std::string& handle);
  const RemoteOptions& options() const { return options_; }
  Backoff NewBackoff() const { return {options_.retry_seconds, options_.cancel}; }

 private:
  struct StepPlace {
    std::string path, session;
    u32 position;
    int output_level;
  };
  Result<RemoteStep> Compute(const StepPlace& place, const Digest& key_id,
                             std::span<const ckks::SeededCiphertext> inputs,
                             const RemoteProgressCallback& on_progress);
  // bounds: of the first of so many results.
  Result<RemoteStep> StepOnce(const ClientRequest& request, const wire::MessageBounds& bounds,
                              size_t results, const RemoteProgressCallback& on_progress);
  RemoteModel(const Url& url, const RemoteOptions& options)
      : options_(options), http_(url, options.cancel, options.access) {}
  Status Adopt(ModelInfo info);

  ClientRequest SessionRequest(const std::string& text, bool computes) const;

  RemoteOptions options_;
  HttpClient http_;
  ModelInfo info_;
  ckks::ParametersPtr params_;
  Digest program_digest_{};
  Sent sent_;
  Recorder recorder_;
};

// Sends a key stream in chunks as it comes: memory stays at one chunk.
class KeyUpload {
 public:
  static Result<KeyUpload> Begin(RemoteModel& remote, const Digest& key_id);
  // The next bytes of the stream; a wire::ByteSink. A chunk damaged on its way is sent again.
  Status Write(wire::ByteView bytes);
  // Sends what is left, waits until the server has prepared the keys. Returns the server's name.
  Result<std::string> Finish();
  // Removes what the server has of it, after a cancellation too; errors are nobody's business.
  void Abandon();
  const std::string& handle() const { return handle_; }

 private:
  explicit KeyUpload(RemoteModel& remote) : remote_(&remote) {}
  Status SendChunk();
  Result<bool> Ready();

  RemoteModel* remote_;
  std::string handle_;
  wire::Bytes pending_;
  u64 next_chunk_ = 0;
};

}  // namespace polyveil::serve
