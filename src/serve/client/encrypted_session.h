// One text of the key's owner on a server: plain residual vectors in and out, ciphertexts between.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "serve/client/remote_model.h"
#include "serve/client/result_guard.h"

namespace polyveil::serve {

struct SessionStep {
  std::vector<double> residual;  // d_model values after the last block; of a prompt's last token
  runtime::LatencyTable server;
  u64 server_peak_rss_bytes = 0;
  double encrypt_seconds = 0;
  double remote_seconds = 0;  // request to result, the server's time included
  double decrypt_seconds = 0;
  u64 bytes_up = 0, bytes_down = 0;
};

// A client's inputs of steps.
class InputEncryptor {
 public:
  // Both outlive it.
  InputEncryptor(const RemoteModel& remote, const ckks::SecretKey& key);
  // Embeddings of texts decoded together. Errors: kOutOfRange (|value| > kLargestSlot units, the
  // largest named; more texts than the server decodes), kMismatch (another width).
  Result<ckks::SeededCiphertext> Encrypt(std::span<const std::vector<double>> embeddings) const;
  Status Check(std::span<const double> embedding) const;
  const ckks::Encoder& encoder() const { return encoder_; }
  double unit() const { return unit_; }
  // Calibrated values fill [-1, 1]; from here on a bootstrap's precision decays.
  static constexpr double kLargestSlot = 1.5;

 private:
  const RemoteModel& remote_;
  const ckks::SecretKey& key_;
  const double unit_;
  const ckks::Encoder encoder_;
};

// Of the results that a server sends, as a guard reads them.
ResultShape ShapeOfResult(const ModelInfo& info);

class EncryptedSession {
 public:
  // Everything given outlives the session; the session ends on the server with this object.
  // public_tokens: the text's first ones behind the constant prefix, sent in the clear; the server
  // computes them, the first step is the token behind them.
  static Result<std::unique_ptr<EncryptedSession>> Create(
      RemoteModel& remote, const ckks::SecretKey& key, const std::string& keys_handle,
      std::span<const std::int32_t> public_tokens = {});
  ~EncryptedSession();

  // Encrypts the embedding of the token at position(), runs the step, decrypts. Range: as
  // InputEncryptor's. A result that the guard does not believe
  // ends the text: kUntrustedResult, then and at every later step; the keys serve another session.
  // The decrypted values carry noise that depends on the secret key: they are for the key's owner
  // only.
  Result<SessionStep> Step(std::span<const double> embedding,
                           const RemoteProgressCallback& on_progress);
  // A token of each of several texts that one session decodes together, in every step the same ones
  // in the same order, up to the server's number of texts (copies of the last fill the others).
  // Errors and noise: as Step's; what is wrong with one of them ends all.
  struct Results {
    std::vector<std::vector<double>> residuals;  // by text, or by token of a prompt
    SessionStep cost;
  };
  Result<Results> StepTexts(std::span<const std::vector<double>> embeddings,
                            const RemoteProgressCallback& on_progress);
  // A prompt's first tokens at once, at the text's beginning, where the server has a program for so
  // many; of an encoder whole texts, at any time. texts: how many of the tokens each of several
  // independent texts has; empty: one. Errors and noise: as Step's.
  Result<Results> Read(std::span<const std::vector<double>> embeddings,
                       const RemoteProgressCallback& on_progress, std::span<const int> texts = {});
  // A step of a text that has ended, which looks to the server like any other: its result is
  // decrypted and thrown away. No Step after it.
  Status Pad();
  int position() const { return position_; }  // tokens so far, public ones counted
  int sent() const { return sent_; }          // those that the server has taken
  // What the server said of the public tokens.
  const RemoteSession& server_session() const { return session_; }
  const ckks::ParametersPtr& params() const { return remote_.params(); }

 private:
  EncryptedSession(RemoteModel& remote, const ckks::SecretKey& key);
  compile::TokenSlots Slots(std::span<const ckks::Ciphertext> results) const;
  // What a request costs around `read`, which takes what came back, decrypted.
  using Request = std::function<Result<RemoteStep>()>;
  Result<SessionStep> Exchange(const Request& request,
                               const std::function<Status(const compile::TokenSlots&)>& read);

  RemoteModel& remote_;
  const ckks::SecretKey& key_;
  const InputEncryptor inputs_;
  const ResultGuard guard_;
  Status trusted_;  // the error of the text's first result that was not
  Digest key_id_;
  RemoteSession session_;
  int position_ = 0;
  int sent_ = 0;  // position_, and those whose result was not taken
};

}  // namespace polyveil::serve
