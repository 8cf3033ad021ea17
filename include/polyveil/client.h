/// @file
/// A client of polyveil-server: text in, text out, ciphertexts between. The server sees how many
/// tokens there are and when; it sees no text, unless that is declared public.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "polyveil/ckks.h"
#include "polyveil/export.h"
#include "polyveil/result.h"

namespace polyveil {

/// What a client connects to and puts up with.
struct ClientOptions {
  std::string server;       ///< "https://host:port"; "http://" where it is on this machine
  std::string token;        ///< Of an account on the server; empty: none.
  std::string authorities;  ///< PEM file that its certificate must lead to; empty: the system's.
  std::string certificate;  ///< PEM file of this client's own, for a server that asks for one.
  std::string key;          ///< PEM file of its key.
  /// Use http:// to other machines: whoever is on the way sees and changes what is sent.
  bool plain_http = false;
  /// Where what servers send of their models is kept; empty: polyveil/models in the user's cache.
  std::string cache_folder;
  double max_model_gigabytes = 16;     ///< Of the client's half that a server may send.
  double max_key_gigabytes = 8;        ///< Of the evaluation keys that it may ask for.
  double max_step_seconds = 6 * 3600;  ///< For a token, the wait behind others' included.
  double retry_seconds = 30;           ///< How long a lost connection is tried anew.
  bool allow_insecure = false;         ///< Accept parameters for tests.
};

/// How the next tokens are picked, and when a text ends.
struct GenerateOptions {
  int tokens = 16;                 ///< New ones, at most.
  double temperature = 0;          ///< 0 is greedy.
  double top_p = 1;                ///< Nucleus, in (0, 1].
  int top_k = 0;                   ///< 0: all.
  double repetition_penalty = 1;   ///< 1: none.
  std::uint64_t seed = 0;          ///< The same seed and text, the same tokens.
  std::vector<std::string> stops;  ///< Texts that end it.
  /// All steps are run, whatever the tokens are: the server does not see where the text ended.
  bool fixed_length = false;
};

/// One token that the server has worked on.
struct TokenEvent {
  int position = 0;       ///< In the text.
  bool prompt = false;    ///< No token was picked behind it.
  std::string_view text;  ///< Characters that the picked token completes; valid in the callback.
  double seconds = 0;     ///< That it took.
  double server_seconds = 0;  ///< Of them on the server.
};

/// Gets every token as it comes; false ends the text (kCancelled).
using OnToken = std::function<bool(const TokenEvent& token)>;

/// What was generated.
struct GeneratedText {
  std::string text;              ///< Behind the prompt.
  std::string end;               ///< Why it ended: "tokens", "end token", "stop text", "context".
  int tokens = 0;                ///< Picked ones.
  std::uint64_t bytes_up = 0;    ///< Sent, keys not counted.
  std::uint64_t bytes_down = 0;  ///< Received.
};

/// A text on the server, which goes on where it was. Not thread-safe; ends on the server with the
/// last copy. Survives lost connections for retry_seconds.
class POLYVEIL_API Text {
 public:
  /// Adds `more` to the text (encrypted), then generates. An error leaves what was generated in
  /// text(). Errors: kUnavailable, kOutOfRange (a text beyond the context), kUntrustedResult (a
  /// result that no sound computation gives: the text has ended), kCancelled.
  Result<GeneratedText> Continue(std::string_view more, const GenerateOptions& options,
                                 const OnToken& on_token = {});
  std::string text() const;  ///< All that was generated so far.
  int tokens() const;        ///< Of the text, prompt included.

  /// @cond INTERNAL
  struct Impl;
  explicit Text(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  /// @endcond

 private:
  std::shared_ptr<Impl> impl_;
};

/// A model on a server, and a secret key for it. Not thread-safe: one text at a time.
class POLYVEIL_API TextClient {
 public:
  /// Asks the server for its model and fetches the client's half (tokenizer, embedding, head)
  /// unless the cache has it. Errors: kUnavailable, kSecurity (parameters for tests), kResource (a
  /// limit above: both values), kCorrupt, kMismatch.
  static Result<TextClient> Connect(const ClientOptions& options);

  std::string model() const;         ///< Its name.
  int context() const;               ///< Tokens that a text may have.
  double seconds_per_token() const;  ///< Planned by the server.
  std::uint64_t key_bytes() const;   ///< That SendKeys sends.
  std::string security() const;      ///< Of the parameters, computed here.

  /// A fresh key, which never leaves this object, and its evaluation keys on their way to the
  /// server. NewText does it where it was not done. Errors: kCancelled, those of the server.
  Status SendKeys(const OnProgress& on_progress = {});
  /// A text behind a public beginning, which the server gets in the clear (empty: none). Errors:
  /// those of SendKeys, kOutOfRange (longer than the server takes: both).
  Result<Text> NewText(std::string_view public_part = {});
  /// Both at once: a new text, `prompt` encrypted.
  Result<GeneratedText> Generate(std::string_view prompt, const GenerateOptions& options,
                                 const OnToken& on_token = {});

  /// @cond INTERNAL
  struct Impl;
  /// @endcond

 private:
  explicit TextClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace polyveil
