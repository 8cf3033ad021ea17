// A text on a server: the model's client half, a server (of its own or a given one), keys, a
// session.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "polyveil/child_server.h"
#include "polyveil/key_files.h"
#include "polyveil/model_files.h"
#include "polyveil/remote_limits.h"
#include "polyveil/run_report.h"
#include "serve/client/encrypted_session.h"

namespace polyveil::tools {

struct SessionOptions {
  std::string model, server, keys, cache;
  std::string key_storage = "auto";
  ProgramOptions program;  // of the own server
  PassphraseSource passphrase;
  RemoteLimits limits;
  double max_model_gigabytes = 16;
  double largest_error = model::kLargestLogitError;
  int context = 0;         // of the own server
  bool text_only = false;  // a given server embeds and chooses the tokens: the tokenizer will do
  size_t threads = 0;
  bool insecure = false;
  bool head = false;  // results are logits of an encoder's classifier
};
void AddSessionOptions(Options& app, SessionOptions& options);

class ModelSession {
 public:
  // The client's half of a local model: --model, or the embedded one where --server is not given.
  // Errors: those of the model's readers, kOutOfRange for a certificate.
  static Result<std::unique_ptr<ModelSession>> Open(const SessionOptions& options);
  // A server of its own on the model, or the given one, which sends the client's half where none is
  // local. Tells on stderr what it does. Errors: those of every part.
  Status Connect(RunReport& report);
  // Takes the session and the keys off the server; ends an own server last.
  ~ModelSession();

  // The key, before anything is made or sent.
  Status OpenKey();
  // A key (of before, where there is one) and its evaluation keys on the server.
  Status SendKeys(RunReport& report);
  // The server's name of them, once they are there.
  const std::string& keys() const { return keys_; }
  // They stay when this object ends.
  void LeaveKeys() { keys_.clear(); }
  // One more text of theirs. Requires SendKeys; texts end before this object does.
  Result<std::unique_ptr<serve::EncryptedSession>> NewText(
      std::span<const model::TokenId> public_tokens);
  // The same on a server that was started anew or gave the keys' place to another client: it gets
  // them again, and on_new_keys is called before, as every session of before is gone.
  Result<std::unique_ptr<serve::EncryptedSession>> NewTextOfAny(
      std::span<const model::TokenId> public_tokens, const std::function<void()>& on_new_keys);
  // Both: one text behind public tokens.
  Status Begin(std::span<const model::TokenId> public_tokens, RunReport& report);

  // The embedding and the head too, where a server of text_only was to send the tokenizer alone.
  Status FetchTables();
  // Null before Connect where the server is to send it.
  const ClientHalf& half() const { return half_; }
  // Of the model's files; empty where the client's half came from the server.
  const std::string& path() const { return path_; }
  int context() const;  // tokens that a text may have, the prefix not among them
  serve::RemoteModel& remote() { return *remote_; }
  // Requires OpenKey or SendKeys.
  const ckks::SecretKey& key() const { return *key_; }
  // Requires Begin.
  serve::EncryptedSession& text() { return *text_; }
  // A server that died explains more than a broken connection does.
  Error Explain(const Error& error);

 private:
  explicit ModelSession(const SessionOptions& options) : options_(options) {}
  bool local() const { return options_.server.empty() || !options_.model.empty(); }
  Status Reach(RunReport& report);
  Status FetchHalf(bool text_only);

  const SessionOptions options_;
  std::string path_;
  ClientHalf half_;
  std::unique_ptr<ChildServer> child_;
  std::unique_ptr<serve::RemoteModel> remote_;
  std::string keys_;
  std::optional<ckks::SecretKey> key_;
  std::unique_ptr<serve::EncryptedSession> text_;
};

// While it lives, requests to the server end by this flag.
class CancelledBy {
 public:
  CancelledBy(serve::RemoteModel& remote, const std::atomic<bool>& cancel) : remote_(remote) {
    remote_.set_cancel(&cancel);
  }
  ~CancelledBy() { remote_.set_cancel(&Interrupted()); }

 private:
  serve::RemoteModel& remote_;
};

}  // namespace polyveil::tools
