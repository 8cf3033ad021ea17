// A text that runs on a server without its client: submitted now, collected later, by whoever has
// the secret key. docs/formats/http.md, "Jobs".
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/csprng.h"
#include "ckks/client/secret_key.h"
#include "compile/choice_layout.h"
#include "serve/client/remote_model.h"
#include "serve/client/result_guard.h"

namespace polyveil::serve {

struct SubmittedRequest {
  std::string keys;       // the server's name of them
  int prompt_tokens = 0;  // encrypted ones
  int new_tokens = 0;
  double temperature = 0;    // 0: the likeliest tokens
  std::optional<Seed> seed;  // of the server's noise; nothing: the server's own
  std::span<const std::int32_t> public_tokens;
};

struct SubmittedState {
  std::string state;  // "receiving", "running", "done", "failed"
  int prompt_tokens = 0, new_tokens = 0;
  int messages = 0, received = 0;  // of the prompt, and those that the server has
  int chosen = 0;
  double done = 0;  // of the step under way
  std::string operation, waiting;
  std::optional<Error> error;  // of "failed"
  bool over() const { return state == "done" || state == "failed"; }
};

class SubmittedText {
 public:
  // Errors: the server's; kInvalidArgument for one that chooses no tokens.
  static Result<SubmittedText> Create(RemoteModel& remote, const SubmittedRequest& request);
  // One of before. remote outlives it.
  SubmittedText(RemoteModel& remote, std::string id) : remote_(&remote), id_(std::move(id)) {}

  const std::string& id() const { return id_; }
  // The prompt's tokens as bits (compile/choice_layout.h), the first one behind `first` public
  // tokens. May be repeated. Errors: kOutOfRange for a token outside the vocabulary, before
  // anything is sent; the server's.
  Status SendPrompt(const ckks::SecretKey& key, int first, std::span<const std::int32_t> tokens);
  // Message `index` of them alone.
  Status SendMessage(const ckks::SecretKey& key, int first, std::span<const std::int32_t> tokens,
                     int index);
  // Errors: the server's; kMismatch and kCorrupt for what no text can be (more tokens than it was
  // to have, done with fewer, failed without a reason).
  Result<SubmittedState> State();
  // Off the server, wherever it is.
  Status Remove();

  // The tokens that were chosen at positions first, first + 1, .., up to `count` of them; fewer
  // where one is undecided: it and what came behind it are no text. Errors: those of messages,
  // kUntrustedResult as ResultGuard's.
  struct Chosen {
    std::vector<compile::ReadChoice> tokens;
    std::optional<compile::ReadChoice> undecided;  // the one behind them
  };
  Result<Chosen> Collect(const ckks::SecretKey& key, int first, int count);

 private:
  struct Page {
    std::vector<ckks::Complex> bits, residuals;
  };
  ClientRequest NewRequest(const char* method, std::string path) const;
  Result<compile::ChoiceLayout> Layout() const;
  Result<Page> Fetch(const ckks::SecretKey& key, int index, int first);

  RemoteModel* remote_;
  std::string id_;
};

}  // namespace polyveil::serve
